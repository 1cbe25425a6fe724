// The sphere of tokens: dragging or the arrow keys turn it, and a start can be dragged elsewhere.
"use strict";
(() => {
  const WIDTH = 420, HEIGHT = 300, RADIUS = 128;
  const NAME = "http://www.w3.org/2000/svg";
  const DEGREES = Math.PI / 180;
  // Rows: across, up, towards the reader. Seen from (1, 1, 1) first; kept from answer to answer.
  const FIRST = [[-1, 1, 0], [-1, -1, 2], [1, 1, 1]].map((row) => {
    const norm = Math.hypot(...row);
    return row.map((one) => one / norm);
  });
  let turn = FIRST;

  const seen = (p) => turn.map((row) => row[0] * p[0] + row[1] * p[1] + row[2] * p[2]);
  const back = (q) => [0, 1, 2].map((k) => turn[0][k] * q[0] + turn[1][k] * q[1] + turn[2][k] * q[2]);
  const onScreen = (q) => [WIDTH / 2 + RADIUS * q[0], HEIGHT / 2 - RADIUS * q[1]];

  // Turns by angles about the axes "up" and "across" of the screen.
  const rotate = (about_up, about_across) => {
    const [c, s] = [Math.cos(about_up), Math.sin(about_up)];
    const [d, t] = [Math.cos(about_across), Math.sin(about_across)];
    const [x, y, z] = turn;
    const mix = (a, u, b, v) => u.map((one, k) => a * one + b * v[k]);
    const across = mix(c, x, s, z);
    const away = mix(-s, x, c, z);
    turn = [across, mix(d, y, -t, away), mix(t, y, d, away)];
  };

  // A curve as two paths: what lies in front, and what lies behind.
  const halves = (points) => {
    const found = ["", ""];
    let last = -1;
    for (const q of points.map(seen)) {
      const half = q[2] >= 0 ? 0 : 1;
      const [x, y] = onScreen(q).map((one) => one.toFixed(1));
      found[half] += `${half === last ? "L" : "M"}${x} ${y}`;
      last = half;
    }
    return found;
  };

  const circle = (of) => Array.from({length: 49}, (_, k) => of((k * 2 * Math.PI) / 48));
  const GRID = [
    ...[0, 30, 60, 90, 120, 150].map((angle) =>
      circle((t) => [
        Math.sin(t) * Math.cos(angle * DEGREES), Math.sin(t) * Math.sin(angle * DEGREES),
        Math.cos(t)])),
    ...[-60, -30, 0, 30, 60].map((angle) =>
      circle((t) => [
        Math.cos(angle * DEGREES) * Math.cos(t), Math.cos(angle * DEGREES) * Math.sin(t),
        Math.sin(angle * DEGREES)])),
  ];

  const STYLE = `:host {display: block}
    svg {width: 100%; height: auto; display: block; cursor: grab; touch-action: pan-y}
    svg:active {cursor: grabbing}
    svg:focus-visible {outline: 2px solid currentColor; outline-offset: 2px; border-radius: 6px}
    .start {cursor: move; touch-action: none}
    p {margin: 0.2rem 0 0; font-size: 0.85rem; opacity: 0.8}`;

  // Writes into a text of the page as a reader does.
  const write = (name, value) => {
    const input = document.querySelector(`.tl-${name} marimo-text`)?.shadowRoot?.querySelector("input");
    if (!input) return;
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, value);
    input.dispatchEvent(new Event("input", {bubbles: true, composed: true}));
  };

  class Globe extends HTMLElement {
    static observedAttributes = ["data-globe"];
    #svg = document.createElementNS(NAME, "svg");
    #drag = null;

    connectedCallback() {
      if (!this.shadowRoot) {
        const root = this.attachShadow({mode: "open"});
        const style = document.createElement("style");
        style.textContent = STYLE;
        const hint = document.createElement("p");
        hint.textContent =
          "Drag, or press the arrow keys, to turn it; drag a diamond to move where its token starts.";
        for (const [name, value] of Object.entries({
          viewBox: `0 0 ${WIDTH} ${HEIGHT}`, tabindex: "0", role: "img", fill: "none"}))
          this.#svg.setAttribute(name, value);
        this.#svg.addEventListener("pointerdown", (event) => this.#grab(event));
        this.#svg.addEventListener("pointermove", (event) => this.#pull(event));
        for (const kind of ["pointerup", "pointercancel"])
          this.#svg.addEventListener(kind, (event) => this.#leave(event));
        this.#svg.addEventListener("keydown", (event) => this.#key(event));
        root.append(style, this.#svg, hint);
      }
      this.#draw();
    }

    attributeChangedCallback() {
      if (this.shadowRoot) this.#draw();
    }

    get #data() {
      return JSON.parse(this.dataset.globe);
    }

    #draw() {
      const {path, network, colours} = this.#data;
      const parts = [`<circle cx="${WIDTH / 2}" cy="${HEIGHT / 2}" r="${RADIUS}" stroke="currentColor"/>`];
      const line = (d, more) => d && parts.push(`<path d="${d}" stroke="currentColor" ${more}/>`);
      for (const one of GRID) line(halves(one)[0], 'opacity="0.15"');
      const last = path.length - 1;
      const ways = path[0].map((_, token) => halves(path.map((time) => time[token])));
      for (const [front, behind] of ways) {
        line(behind, 'opacity="0.25" stroke-dasharray="2 3"');
        line(front, 'opacity="0.5"');
      }
      const marks = [];
      const mark = (q, drawn) => marks.push([q[2], drawn(...onScreen(q).map((one) => one.toFixed(1)))]);
      for (const point of network) {
        const q = seen(point);
        mark(q, (x, y) => `<rect x="${x - 3}" y="${y - 3}" width="6" height="6"
          fill="${colours[1]}" opacity="${q[2] < 0 ? 0.4 : 1}"/>`);
      }
      for (const point of path[last]) {
        const q = seen(point);
        const fill = q[2] < 0 ? "none" : colours[0];
        mark(q, (x, y) => `<circle cx="${x}" cy="${y}" r="5" fill="${fill}" stroke="${colours[0]}"/>`);
      }
      path[0].forEach((point, token) => {
        const q = seen(this.#drag?.token === token ? this.#drag.place : point);
        mark(q, (x, y) => `<path class="start" data-token="${token}" d="M${x} ${y - 6}l6 6l-6 6l-6 -6z"
          fill="transparent" stroke="currentColor" stroke-width="1.3" opacity="${q[2] < 0 ? 0.4 : 1}"/>`);
      });
      marks.sort((a, b) => a[0] - b[0]);
      this.#svg.setAttribute("aria-label", this.dataset.alt);
      this.#svg.innerHTML = parts.join("") + marks.map((one) => one[1]).join("");
    }

    // Where the pointer is, in radii from the middle.
    #place(event) {
      const box = this.#svg.getBoundingClientRect();
      const scale = WIDTH / box.width / RADIUS;
      return [
        (event.clientX - box.left - box.width / 2) * scale,
        (box.top + box.height / 2 - event.clientY) * scale];
    }

    #grab(event) {
      const named = event.target.dataset?.token;
      this.#drag = {at: this.#place(event), token: null};
      if (named !== undefined) {
        const token = Number(named);
        const place = this.#data.path[0][token];
        this.#drag = {token, place, side: seen(place)[2] < 0 ? -1 : 1, far: false};
      }
      this.#svg.setPointerCapture(event.pointerId);
    }

    #pull(event) {
      if (!this.#drag) return;
      const [x, y] = this.#place(event);
      if (this.#drag.token === null) {
        const [u, v] = this.#drag.at;
        rotate(x - u, v - y);
        this.#drag.at = [x, y];
      } else {
        const norm = Math.max(1, Math.hypot(x, y));
        const q = [x / norm, y / norm];
        const depth = Math.sqrt(Math.max(0, 1 - q[0] * q[0] - q[1] * q[1]));
        this.#drag.place = back([...q, this.#drag.side * depth]);
        this.#drag.far = true;
      }
      this.#draw();
    }

    #leave(event) {
      const drag = this.#drag;
      this.#drag = null;
      if (drag?.token == null || !drag.far || event.type === "pointercancel") return this.#draw();
      const moved = new Map(
        this.#data.moved.split(";").filter(Boolean).map((part) => part.split(":")));
      moved.set(String(drag.token), drag.place.map((one) => Number(one.toFixed(3))).join(","));
      write("moved", [...moved].map((pair) => pair.join(":")).join(";"));
    }

    #key(event) {
      const step = 10 * DEGREES;
      const turns = {
        ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step]};
      if (event.key === "Home") turn = FIRST;
      else if (turns[event.key]) rotate(...turns[event.key]);
      else return;
      event.preventDefault();
      this.#draw();
    }
  }
  customElements.define("tl-globe", Globe);
})();
