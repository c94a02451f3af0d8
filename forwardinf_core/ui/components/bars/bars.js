export default function ({ data, parentElement }) {
  drawBars(parentElement.querySelector(".bars"), data)
}
