// One picture in a square, shared by the components that show one. The old one stays until the new one has loaded, so nothing blinks.

const SHARP_BELOW = 2 // a picture enlarged at least so many times is drawn with sharp pixels

function drawPicture(figure, data) {
  figure.style.maxWidth = `${data.width}px`
  const shown = figure.querySelector("img")
  if (shown && shown.getAttribute("src") === data.src) {
    shown.alt = data.alt
    return
  }
  const next = document.createElement("img")
  next.alt = data.alt
  next.draggable = false
  next.onload = () => {
    if (data.width / next.naturalWidth >= SHARP_BELOW) next.className = "sharp"
    figure.replaceChildren(next)
  }
  next.onerror = () => {
    const missing = document.createElement("span")
    missing.textContent = "no picture"
    figure.replaceChildren(missing)
  }
  next.src = data.src
}
