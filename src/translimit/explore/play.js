// A button that moves a slider from stop to stop, as the arrow keys do, and waits for each answer.
"use strict";
(() => {
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const LEAST = 120; // milliseconds from one stop to the next
  const PATIENCE = 60000; // milliseconds until an answer that does not come ends the play
  const answered = () => document.getElementById("panel")?.dataset.answers;

  const thumbOf = (name) =>
    document.querySelector(`.tl-${name} marimo-slider`)?.shadowRoot?.querySelector("[role=slider]");

  // A slider that hears a key takes the focus: who had it gets it back.
  const press = (thumb, key) => {
    let focused = document.activeElement;
    while (focused?.shadowRoot?.activeElement) focused = focused.shadowRoot.activeElement;
    thumb.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true, composed: true}));
    focused?.focus({preventScroll: true});
    requestAnimationFrame(() => focused?.focus({preventScroll: true}));
  };

  const atEnd = (thumb) =>
    Number(thumb.getAttribute("aria-valuenow")) >= Number(thumb.getAttribute("aria-valuemax"));

  class Play extends HTMLElement {
    #button = document.createElement("button");
    #run = 0; // counts plays, so that one that was stopped knows

    connectedCallback() {
      if (!this.shadowRoot) {
        const root = this.attachShadow({mode: "open"});
        const style = document.createElement("style");
        style.textContent = `button {font: inherit; font-size: 0.85rem; color: inherit;
          background: none; border: 1px solid currentColor; border-radius: 6px; cursor: pointer;
          padding: 0.1rem 0.6rem; min-height: 1.7rem; white-space: nowrap}`;
        this.#button.type = "button";
        this.#button.addEventListener("click", () => this.#pressed());
        root.append(style, this.#button);
      }
      const slider = this.parentElement;
      for (const kind of ["pointerdown", "keydown"])
        slider.addEventListener(kind, this.#byHand, true);
      still.addEventListener("change", this.#stop);
      this.#say();
    }

    disconnectedCallback() {
      still.removeEventListener("change", this.#stop);
      this.#run += 1;
    }

    // The reader moves the slider: the play gives way. Keys of the play itself are not trusted.
    #byHand = (event) => {
      if (event.isTrusted && !event.composedPath().includes(this)) this.#stop();
    };

    #stop = () => {
      this.#run += 1;
      this.dataset.state = "paused";
      this.#say();
    };

    #say() {
      const playing = this.dataset.state === "playing";
      const [mark, word] = still.matches ? ["⏵|", "step"] : playing ? ["⏸", "pause"] : ["▶", "play"];
      this.#button.textContent = `${mark} ${word}`;
      this.#button.setAttribute("aria-label", `${word}: ${this.dataset.label}`);
    }

    #pressed() {
      const thumb = thumbOf(this.dataset.slider);
      if (!thumb) return;
      if (this.dataset.state === "playing") return this.#stop();
      const first = atEnd(thumb) ? "Home" : "ArrowRight";
      if (still.matches) return press(thumb, first);
      this.dataset.state = "playing";
      this.#say();
      this.#play(++this.#run, first);
    }

    async #play(run, key) {
      const thumb = thumbOf(this.dataset.slider);
      const before = answered();
      const started = performance.now();
      if (!thumb) return this.#stop();
      press(thumb, key);
      const waited = () => performance.now() - started;
      while (answered() === before || waited() < LEAST) {
        await new Promise((resolve) => setTimeout(resolve, 30));
        if (run !== this.#run) return;
        if (waited() > PATIENCE) break;
      }
      if (waited() > PATIENCE || atEnd(thumb)) return this.#stop();
      this.#play(run, "ArrowRight");
    }
  }
  customElements.define("tl-play", Play);
})();
