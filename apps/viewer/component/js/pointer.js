// Mouse and wheel over a pane.

const CLICK_PX = 3;
const NOTCH_PX = 50;
const LINE_PX = 33;

/** Connect the mouse over a pane with the viewer. */
export function connectPointer(viewer, pane) {
  const { host } = pane;
  let drag = null;
  let rolled = 0;

  const place = (event) => {
    const box = host.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  host.addEventListener("contextmenu", (event) => event.preventDefault());
  host.addEventListener("wheel", (event) => {
    event.preventDefault();
    viewer.activate(pane);
    const px = event.deltaMode === 1 ? event.deltaY * LINE_PX : event.deltaY;
    const { x, y } = place(event);
    if (event.ctrlKey) viewer.zoom(pane, x, y, Math.exp(-px / 400));
    else {
      // A notch of a wheel is one slice; the small steps of a touch pad are added up.
      rolled = Math.abs(px) >= NOTCH_PX ? px : rolled + px;
      if (Math.abs(rolled) >= NOTCH_PX) {
        viewer.scroll(Math.sign(rolled) * Math.max(Math.round(Math.abs(rolled) / 120), 1));
        rolled = 0;
      }
    }
    viewer.readAt(pane, x, y);
  }, { passive: false });

  host.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    host.setPointerCapture(event.pointerId);
    viewer.focus();
    viewer.activate(pane);
    const at = place(event);
    drag = { ...at, start: at, button: event.button, moved: false };
    if (event.button !== 0) return;
    viewer.hand()?.press(pane, at.x, at.y);
  });

  host.addEventListener("pointermove", (event) => {
    const at = place(event);
    viewer.readAt(pane, at.x, at.y);
    if (!drag) {
      viewer.hand()?.hover(pane, at.x, at.y);
      return;
    }
    const dx = at.x - drag.x;
    const dy = at.y - drag.y;
    drag.moved ||= Math.hypot(at.x - drag.start.x, at.y - drag.start.y) > CLICK_PX;
    if (!drag.moved) return;
    drag.x = at.x;
    drag.y = at.y;
    if (drag.button !== 0) viewer.move(pane, dx, dy);
    else if (viewer.hand()) viewer.hand().hover(pane, at.x, at.y);
    else viewer.dragWindow(dx, dy);
  });

  host.addEventListener("pointerup", (event) => {
    const at = place(event);
    const left = drag?.button === 0 ? drag : null;
    drag = null;
    if (!left) return;
    if (viewer.hand()) viewer.hand().release(left.moved);
    else if (!left.moved) viewer.click(pane, at.x, at.y);
  });
  host.addEventListener("pointercancel", () => {
    drag = null;
    viewer.hand()?.cancel();
  });
  host.addEventListener("pointerenter", () => viewer.focusUnlessTyping());
  host.addEventListener("pointerleave", () => viewer.readNothing());
}
