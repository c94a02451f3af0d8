// Galleries beside each other with one selection among them all.

const memory = new WeakMap() // one entry per mounted board
const TILE_WIDTH = 62
const ARROWS = { helped: "\u2191", hurt: "\u2193", neutral: "" }

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".board")
  const board = memory.get(parentElement) ?? { turn: 0, boxes: [], drawn: "" }
  memory.set(parentElement, board)
  board.tell = (id) => {
    board.turn += 1
    board.boxes.forEach((box) => box.select(id))
    setStateValue("chosen", { id, turn: board.turn })
  }
  following(board, "board", data, (shown) => draw(root, board, shown))
  return () => {
    board.boxes.forEach((box) => box.stop())
    stopFollowing(board)
    memory.delete(parentElement)
  }
}

function draw(root, board, data) {
  const wanted = JSON.stringify(data.sides)
  const isNew = wanted !== board.drawn
  if (isNew) {
    board.boxes = []
    root.replaceChildren(...data.sides.map((side) => drawSide(side, board)))
    board.drawn = wanted
  }
  const turn = data.turn ?? board.turn // what is shown early is nobody's echo
  if (!isNew && turn < board.turn) return
  board.turn = Math.max(board.turn, turn)
  board.boxes.forEach((box) => box.select(data.selected))
}

function drawSide(side, board) {
  const drawn = element("section", `side ${side.tone}`)
  const heading = element("h4", "")
  heading.append(element("i", "", ARROWS[side.tone]), side.heading)
  const sentence = element("p", "")
  sentence.append(`${side.before} `, element("b", "", side.subject), ` ${side.after}`)
  drawn.append(heading, sentence)
  if (!side.tiles.length) {
    drawn.append(element("div", "nothing", side.empty))
    return drawn
  }
  const list = element("div", "gallery")
  list.setAttribute("role", "listbox")
  list.setAttribute("aria-label", side.label)
  list.tabIndex = -1
  const box = listbox(list)
  box.draw(side.tiles, { width: TILE_WIDTH, follow: true })
  box.onChoose = (id) => board.tell(id)
  board.boxes.push(box)
  drawn.append(list)
  return drawn
}
