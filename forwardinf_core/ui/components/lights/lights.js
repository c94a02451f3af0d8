// Traffic lights. A colour never speaks alone: each has its own sign, and a screen reader is told it in words.

const SIGNS = { green: "\u2713", amber: "!", red: "\u2715", grey: "" }
const SPOKEN = { green: "good", amber: "doubtful", red: "bad", grey: "not checked" }

export default function ({ data, parentElement, setTriggerValue }) {
  const list = parentElement.querySelector(".lights")
  list.setAttribute("aria-label", data.label)
  list.style.setProperty("--columns", data.columns)
  const wanted = JSON.stringify(data.lamps)
  if (list.dataset.drawn !== wanted) {
    list.replaceChildren(...data.lamps.map(drawn))
    list.dataset.drawn = wanted
  }
  list.onclick = (event) => {
    const button = event.target.closest(".call")
    if (button) setTriggerValue("chosen", button.dataset.name)
  }
}

function element(name, className, text = "") {
  const made = document.createElement(name)
  made.className = className
  made.textContent = text
  return made
}

function drawn(lamp) {
  const item = element("div", `lamp ${lamp.colour}`)
  item.setAttribute("role", "listitem")
  if (lamp.hint) item.title = lamp.hint
  const sign = element("span", "sign", SIGNS[lamp.colour])
  sign.setAttribute("role", "img")
  sign.setAttribute("aria-label", SPOKEN[lamp.colour])
  item.append(sign, element("span", "title", lamp.title), element("span", "figure", lamp.figure))
  item.append(element("span", "sentence", lamp.sentence))
  if (lamp.call) {
    const button = element("button", "call", lamp.call)
    button.type = "button"
    button.dataset.name = lamp.name
    item.append(button)
  }
  return item
}
