// The slider fades each image from one of its layers to the next.
for (const viewer of document.querySelectorAll(".viewer")) {
  const slider = viewer.querySelector("input");
  const apart = viewer.querySelector(".apart");
  const buttons = [...viewer.querySelectorAll(".layers button:not(.apart)")];
  const images = [...viewer.querySelectorAll(".image")].map((image) => [...image.children]);

  const show = () => {
    const stacked = viewer.classList.contains("stacked");
    const at = Number(slider.value);
    const below = Math.floor(at);
    for (const layers of images) {
      layers.forEach((layer, i) => {
        // The upper one of the two fades in over the lower one.
        const seen = i === below ? 1 : i === below + 1 ? at - below : 0;
        layer.style.opacity = stacked ? seen : 1;
      });
    }
    buttons.forEach((button, i) => {
      button.setAttribute("aria-pressed", stacked && i === Math.round(at));
    });
    apart.setAttribute("aria-pressed", !stacked);
  };

  slider.addEventListener("input", () => {
    viewer.classList.add("stacked");
    show();
  });
  buttons.forEach((button, i) => button.addEventListener("click", () => {
    slider.value = i;
    viewer.classList.add("stacked");
    show();
  }));
  apart.addEventListener("click", () => {
    viewer.classList.toggle("stacked");
    show();
  });
  viewer.querySelector(".controls").hidden = false;
  viewer.classList.add("stacked");
  show();
}

// A drawing that the screen makes small is shown in full, to be scrolled, when it is tapped.
for (const drawing of document.querySelectorAll(".drawing")) {
  drawing.addEventListener("click", () => drawing.classList.toggle("full"));
}
