// What a component shows before the server has drawn it: an answer that was fetched while the server still works.

const EARLY = "forwardinf-early"
const PATIENCE_MS = 5000 // the server's drawing is shown again if it has not caught up by then

// `state` is the mount's own; `part` names the component's part of an early answer; `show` draws data of either source.
function following(state, part, data, show) {
  state.latest = data
  state.show = show
  if (!state.onEarly) {
    state.onEarly = ({ detail }) => {
      if (!detail[part]) return
      state.expected = detail[part].asked
      clearTimeout(state.timer)
      state.timer = setTimeout(() => {
        state.expected = ""
        state.show(state.latest)
      }, PATIENCE_MS)
      state.show(detail[part])
    }
    document.addEventListener(EARLY, state.onEarly)
  }
  if (state.expected && state.expected !== data.asked) return // drawn for the question before
  state.expected = ""
  clearTimeout(state.timer)
  show(data)
}

function stopFollowing(state) {
  clearTimeout(state.timer)
  document.removeEventListener(EARLY, state.onEarly)
}
