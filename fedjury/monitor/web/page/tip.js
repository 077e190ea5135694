"use strict";

/* The tip beside what is pointed at. It never stays in the way: it goes with the pointer, with the
   wheel, with any key or a tap elsewhere, and of touches after some seconds. */

const Tip = (() => {
  const TOUCHED = 5000; // milliseconds that it stays where nothing hovers

  class Tip {
    constructor(element) {
      this.element = element;
      this.timer = null;
      // Not "scroll": that comes as well where the browser makes up for a line above that has grown.
      for (const away of ["pointerdown", "wheel", "keydown"]) addEventListener(away, () => this.hide(), { passive: true });
    }

    /** Show a text beside where an event took place, and inside the window. */
    show(text, { clientX, clientY }) {
      const { element } = this;
      element.textContent = text;
      element.hidden = false;
      const { offsetWidth: width, offsetHeight: height } = element;
      const below = clientY + 16 + height <= innerHeight;
      element.style.left = `${Math.max(8, Math.min(clientX + 12, innerWidth - width - 8))}px`;
      element.style.top = `${Math.max(8, below ? clientY + 16 : clientY - height - 12)}px`;
      clearTimeout(this.timer);
      if (matchMedia("(hover: none)").matches) this.timer = setTimeout(() => this.hide(), TOUCHED);
    }

    hide() {
      this.element.hidden = true;
    }
  }

  return Tip;
})();
