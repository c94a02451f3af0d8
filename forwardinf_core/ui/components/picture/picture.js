export default function ({ data, parentElement }) {
  drawPicture(parentElement.querySelector(".picture"), data)
}
