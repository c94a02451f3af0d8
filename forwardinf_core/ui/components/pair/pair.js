// Two pictures and their difference, computed here from the very pixels that are shown.

const SIDE = 96 // pixels a side at which the two are compared: the size of a thumbnail
const STRENGTH = 2 // differences are drawn this many times as strong
const SHARP_BELOW = 2 // a picture enlarged at least so many times is drawn with sharp pixels

const turns = new WeakMap() // one number per mounted view: an older load must not draw over a newer one

export default function ({ data, parentElement }) {
  const view = parentElement.querySelector(".pair")
  const wanted = JSON.stringify(data)
  if (view.dataset.drawn === wanted) return
  view.dataset.drawn = wanted
  const turn = (turns.get(parentElement) ?? 0) + 1
  turns.set(parentElement, turn)
  Promise.all([load(data.left.src), load(data.right.src)]).then(([left, right]) => {
    if (turns.get(parentElement) !== turn) return
    const words = data.mirrored ? `${data.right.words} (mirrored here to compare)` : data.right.words
    const apart = difference(left, right, data.mirrored)
    view.replaceChildren(
      figure(shown(left, false), data.left.words),
      figure(shown(right, data.mirrored), words),
      figure(apart.content, apart.words),
    )
  })
  return () => turns.delete(parentElement)
}

function load(src) {
  return new Promise((resolve) => {
    const picture = new Image()
    picture.onload = () => resolve(picture)
    picture.onerror = () => resolve(null)
    picture.src = src
  })
}

function figure(content, words) {
  const made = document.createElement("figure")
  const frame = document.createElement("div")
  frame.className = "frame"
  frame.append(content)
  const caption = document.createElement("figcaption")
  caption.textContent = words
  made.append(frame, caption)
  return made
}

function missing() {
  const words = document.createElement("span")
  words.textContent = "no picture"
  return words
}

function shown(picture, mirrored) {
  if (!picture) return missing()
  if (picture.naturalWidth * SHARP_BELOW <= 220) picture.classList.add("sharp")
  if (mirrored) picture.classList.add("mirrored")
  picture.alt = ""
  return picture
}

function pixels(picture, mirrored) {
  const canvas = document.createElement("canvas")
  canvas.width = canvas.height = SIDE
  const pen = canvas.getContext("2d", { willReadFrequently: true })
  if (mirrored) {
    pen.translate(SIDE, 0)
    pen.scale(-1, 1)
  }
  pen.drawImage(picture, 0, 0, SIDE, SIDE)
  return pen.getImageData(0, 0, SIDE, SIDE)
}

function difference(left, right, mirrored) {
  if (!left || !right) return { content: missing(), words: "Difference" }
  const first = pixels(left, false)
  const second = pixels(right, mirrored)
  let largest = 0
  for (let at = 0; at < first.data.length; at += 4) {
    let apart = 0
    for (let colour = 0; colour < 3; colour += 1) {
      apart = Math.max(apart, Math.abs(first.data[at + colour] - second.data[at + colour]))
    }
    largest = Math.max(largest, apart)
    first.data[at + 3] = Math.min(255, STRENGTH * apart)
  }
  const canvas = document.createElement("canvas")
  canvas.width = canvas.height = SIDE
  canvas.getContext("2d").putImageData(first, 0, 0)
  const ink = document.createElement("div") // a mask, so that it is drawn in the theme's own colour
  ink.className = "ink"
  ink.style.maskImage = `url(${canvas.toDataURL()})`
  ink.setAttribute("role", "img")
  ink.setAttribute("aria-label", "empty where both pictures agree, stronger where they differ")
  const words = largest ? `Difference, at most ${largest} of 255` : "No difference"
  return { content: ink, words }
}
