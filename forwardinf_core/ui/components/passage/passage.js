export default function ({ data, parentElement }) {
  drawPassage(parentElement.querySelector(".passage"), data)
}
