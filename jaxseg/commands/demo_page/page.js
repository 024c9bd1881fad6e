const get = (id) => document.getElementById(id);
let shown = null;  // what the server said of the image

function say(text, isError = false) {
  get("message").textContent = text;
  get("message").classList.toggle("error", isError);
}

async function ask(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "X-Jaxseg": "1" }, body });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

// Runs something that takes a while, and says so.
async function during(text, work) {
  say(text);
  try {
    await work();
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

function showOutput() {
  const output = shown.outputs.find((one) => one.name === get("output").value);
  get("overlay").src = output.picture;
  get("overlay").style.opacity = get("opacity").value;
}

function open(file) {
  if (!file) return;
  during("Segmenting…", async () => {
    shown = await ask("/images", file);
    get("image").src = shown.image;
    const kept = get("output").value;
    get("output").replaceChildren(...shown.outputs.map((one) => new Option(one.name)));
    if (shown.outputs.some((one) => one.name === kept)) get("output").value = kept;
    document.querySelectorAll("#names .share").forEach((share, i) => {
      share.textContent = `${(100 * shown.shares[i]).toFixed(1)} %`;
    });
    get("look").hidden = false;
    get("segment").hidden = true;
    showOutput();
  });
}

function fill(id, pictures) {
  get(id).hidden = !pictures.length;
  get(id).querySelector(".gallery").replaceChildren(...pictures.map(([source, title]) => {
    const figure = document.createElement("figure");
    const picture = document.createElement("img");
    const caption = document.createElement("figcaption");
    picture.src = source;
    picture.alt = caption.textContent = title;
    figure.append(picture, caption);
    return figure;
  }));
}

function explain(event) {
  const place = get("picture").getBoundingClientRect();
  const asked = {
    id: shown.id,
    output: get("output").value,
    x: Math.min(Math.max((event.clientX - place.left) / place.width, 0), 1),
    y: Math.min(Math.max((event.clientY - place.top) / place.height, 0), 1),
  };
  during("Looking it up…", async () => {
    const found = await ask("/segments", JSON.stringify(asked));
    get("overlay").src = found.outline;
    get("overlay").style.opacity = 1;
    get("segment-name").textContent = `${found.name}, ${(100 * found.share).toFixed(1)} % of the image`;
    fill("neighbours", found.neighbours.map((one) => [one.picture, `cosine ${one.cosine.toFixed(3)}`]));
    fill("attention", found.attention.map((one) => [one.picture, one.title]));
    get("segment").hidden = false;
  });
}

document.querySelectorAll(".swatch").forEach((swatch) => {
  swatch.style.background = `rgb(${swatch.dataset.colour})`;
});
get("file").addEventListener("change", () => open(get("file").files[0]));
get("output").addEventListener("change", showOutput);
get("opacity").addEventListener("input", showOutput);
get("picture").addEventListener("click", explain);
get("names").addEventListener("submit", (event) => {
  event.preventDefault();
  const names = [...document.querySelectorAll("#names input")].map((input) => input.value);
  during("Saving…", async () => {
    await ask("/names", JSON.stringify({ names }));
  }).then(() => get("message").textContent || say("The names are saved."));
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    get("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") open(event.dataTransfer.files[0]);
  });
}
