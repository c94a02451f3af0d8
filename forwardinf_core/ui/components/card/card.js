// The card of a query. It shows an answer that was fetched early before the server draws it.

const memory = new WeakMap() // one entry per mounted card
const TAGS = { plain: "span", strong: "b", quiet: "span", badge: "span" }

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".card")
  const card = memory.get(parentElement) ?? {}
  memory.set(parentElement, card)
  following(card, "card", data, (shown) => draw(root, shown))
  return () => {
    stopFollowing(card)
    memory.delete(parentElement)
  }
}

function draw(root, data) {
  if (!root.firstElementChild) build(root)
  const [figure, words] = root.children
  const [sentence, list, notes] = words.children
  root.classList.toggle("beside", data.width < 200 && !data.text)
  figure.className = data.text ? "passage" : "picture"
  if (data.text) drawPassage(figure, { ...data.text, label: data.alt })
  else drawPicture(figure, data)
  sentence.replaceChildren(
    ...data.verdict.map(({ text, weight }) => {
      const piece = document.createElement(TAGS[weight])
      piece.className = weight
      piece.textContent = text
      return piece
    }),
  )
  drawBars(list, { bars: data.bars, label: "Probabilities by class", zero: null })
  notes.replaceChildren(
    ...data.notes.map((note) => {
      const line = document.createElement("li")
      line.textContent = note
      return line
    }),
  )
}

function build(root) {
  const figure = document.createElement("figure")
  figure.className = "picture"
  const words = document.createElement("div")
  words.className = "words"
  const list = document.createElement("div")
  list.className = "bars"
  list.setAttribute("role", "list")
  const notes = document.createElement("ul")
  notes.className = "notes"
  words.append(document.createElement("p"), list, notes)
  root.append(figure, words)
}
