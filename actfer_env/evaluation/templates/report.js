"use strict";
(() => {
  const form = document.getElementById("filters");
  const shown = document.getElementById("shown");
  const nothing = document.getElementById("nothing");
  const episodes = [...document.querySelectorAll(".episode")];
  const groups = [...document.querySelectorAll(".group")];
  const fields = [...form.querySelectorAll("select")];

  // Hide what does not match, and say how much is left.
  function apply() {
    const wanted = fields.filter((field) => field.value);
    let count = 0;
    for (const episode of episodes) {
      episode.hidden = wanted.some((field) => episode.dataset[field.name] !== field.value);
      count += episode.hidden ? 0 : 1;
    }
    for (const group of groups) {
      group.hidden = !group.querySelector(".episode:not([hidden])");
    }
    shown.value = `${count} of ${episodes.length} episode${episodes.length === 1 ? "" : "s"}`;
    nothing.hidden = count > 0;
  }

  // The filters live in the address, so that a view can be shared: #outcome=wrong&zoom=yes
  function save() {
    const state = new URLSearchParams(fields.filter((f) => f.value).map((f) => [f.name, f.value])).toString();
    history.replaceState(null, "", state ? `#${state}` : location.pathname + location.search);
  }

  function restore() {
    const state = new URLSearchParams(location.hash.slice(1));
    for (const field of fields) {
      const value = state.get(field.name) ?? "";
      field.value = [...field.options].some((option) => option.value === value) ? value : "";
    }
    apply();
  }

  form.addEventListener("change", () => { apply(); save(); });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    for (const field of fields) field.value = "";
    apply();
    save();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", () => { if (location.hash.includes("=") || !location.hash) restore(); });
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  form.hidden = false;
  restore();
})();
