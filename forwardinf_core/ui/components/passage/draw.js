// A text in a box that scrolls, shared by the components that show one. Text is only ever text: no markup is read.
function drawPassage(root, { read, rest, note, label }) {
  const box = document.createElement("div")
  box.className = "text"
  box.dir = "auto"
  box.tabIndex = 0
  box.setAttribute("role", "document")
  box.setAttribute("aria-label", label)
  if (read || rest) {
    const seen = document.createElement("span")
    seen.textContent = read
    const unseen = document.createElement("span")
    unseen.className = "rest"
    unseen.textContent = rest
    box.append(seen, unseen)
  } else {
    box.classList.add("empty")
    box.textContent = "This text is empty."
  }
  const said = document.createElement("p")
  said.textContent = note
  root.replaceChildren(box, ...(note ? [said] : []))
}
