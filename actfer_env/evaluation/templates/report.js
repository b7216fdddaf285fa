"use strict";
// A list of groups in pages, with filters and a search. A short list stands in the document as it is. The groups of a
// longer one are packed into parts, in the document or in files beside it: a page of the list unpacks those that it
// needs, and forgets the oldest.
(() => {
  const index = JSON.parse(document.getElementById("index").textContent);
  const form = document.getElementById("filters");
  const shown = document.getElementById("shown");
  const nothing = document.getElementById("nothing");
  const list = document.getElementById("groups");
  const pagers = [...document.querySelectorAll(".pager")];
  const fields = [...form.querySelectorAll("select[data-column]")];
  const { order, search, many } = form.elements;
  const KEPT = 24; // parts in memory

  const starts = []; // of each group: the number of its first item
  let total = 0;
  for (const size of index.sizes) {
    starts.push(total);
    total += size;
  }
  const partOf = index.parts.flatMap((part, i) => Array(part.groups).fill(i));
  const offset = []; // of each part: its first group
  let before = 0;
  for (const part of index.parts) {
    offset.push(before);
    before += part.groups;
  }
  const asPlayed = index.played.map((place, group) => [place, group]).sort((a, b) => a[0] - b[0]).map((pair) => pair[1]);
  const sections = index.parts.length ? null : [...list.querySelectorAll(".group")];
  let page = 0;
  let turn = 0;
  let pages = [];
  let drawn = ""; // view that the document shows
  let placed = ""; // order of the groups in the document

  // Return the pages of the list: on each, some groups with the numbers of their matching items.
  function find() {
    const wanted = fields.filter((field) => field.value).map((field) => {
      const column = index.columns[field.name];
      return [column.codes, column.values.indexOf(field.value).toString(36)];
    });
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const groups = order.value ? asPlayed : index.sizes.map((_, i) => i);
    const found = [];
    let room = 0;
    let count = 0;
    for (const group of groups) {
      if (!words.every((word) => index.text[group].includes(word))) continue;
      const items = [];
      for (let i = starts[group]; i < starts[group] + index.sizes[group]; i++) {
        if (wanted.every(([codes, code]) => codes[i] === code)) items.push(i);
      }
      if (!items.length) continue;
      if (room <= 0) {
        found.push([]);
        room = Number(many.value || index.page);
      }
      found[found.length - 1].push([group, items]);
      room -= items.length;
      count += items.length;
    }
    return [found, count];
  }

  // Parts beside the page call this with their content.
  const waiting = new Map();
  window.actferPart = (content) => waiting.get(document.currentScript)?.(content);
  const parts = new Map(); // those in memory, the oldest first

  function load(name) {
    const part = parts.get(name) ?? new Promise((resolve, reject) => {
      const packed = document.getElementById(`part-${name}`);
      if (packed) {
        resolve(packed.textContent);
        return;
      }
      const script = document.createElement("script");
      waiting.set(script, resolve);
      script.src = `${index.folder}/${name}.js`;
      script.onload = script.onerror = () => {
        waiting.delete(script);
        script.remove();
        reject(new Error(`${index.folder}/${name}.js cannot be read: keep that folder beside this page, or run 'actfer report' again.`));
      };
      document.head.append(script);
    }).then(unpack);
    parts.delete(name);
    parts.set(name, part);
    part.catch(() => parts.delete(name));
    while (parts.size > KEPT) parts.delete(parts.keys().next().value);
    return part;
  }

  async function unpack(text) {
    const letters = atob(text);
    const bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return JSON.parse(await new Response(stream).text());
  }

  // Hide all groups of the document but these, and of these the items that do not match.
  function mark(groups) {
    const wanted = new Map(groups);
    for (const [group, section] of sections.entries()) {
      const items = wanted.get(group);
      section.hidden = !items;
      section.querySelectorAll(".episode").forEach((item, i) => { item.hidden = !items?.includes(starts[group] + i); });
    }
  }

  // Show a page of the list; a large report loads it first. Text in it was escaped when the report was written.
  async function draw(groups, ticket) {
    if (sections) {
      if (placed !== order.value) list.append(...(order.value ? asPlayed.map((group) => sections[group]) : sections));
      placed = order.value;
      mark(groups);
      return;
    }
    list.ariaBusy = "true";
    try {
      const names = partsOf(groups);
      const loaded = await Promise.all(names.map((i) => load(index.parts[i].name)));
      if (ticket !== turn) return;
      const content = new Map(names.map((name, i) => [name, loaded[i]]));
      const template = document.createElement("template");
      template.innerHTML = groups.map(([group, items]) => {
        const [head, all] = content.get(partOf[group])[group - offset[partOf[group]]];
        return `${head}${items.map((i) => all[i - starts[group]]).join("")}</section>`;
      }).join("");
      list.replaceChildren(template.content);
    } catch (error) {
      if (ticket !== turn) return;
      const line = document.createElement("p");
      line.className = "empty";
      line.textContent = error.message;
      list.replaceChildren(line);
    }
    list.ariaBusy = "false";
    for (const i of partsOf(pages[page + 1] ?? [])) load(index.parts[i].name).catch(() => {}); // most turn to it next
  }

  function partsOf(groups) {
    return [...new Set(groups.map(([group]) => partOf[group]))];
  }

  // Find, draw, and say how much there is; the promise ends when the page is drawn.
  function apply() {
    const [found, count] = find();
    pages = found;
    page = Math.max(0, Math.min(page, pages.length - 1));
    shown.value = `${count} of ${total} ${index.noun}${total === 1 ? "" : "s"}`;
    nothing.hidden = count > 0;
    for (const pager of pagers) {
      pager.hidden = pages.length < 2;
      const [first, back, place, next, last] = pager.children;
      first.disabled = back.disabled = page === 0;
      next.disabled = last.disabled = page >= pages.length - 1;
      place.textContent = `page ${page + 1} of ${pages.length}`;
    }
    const view = JSON.stringify([state(), page]);
    if (view === drawn) return Promise.resolve();
    drawn = view;
    turn += 1;
    return draw(pages[page] ?? [], turn);
  }

  // The view lives in the address, so that it can be shared: #outcome=wrong&zoom=yes&page=3
  function state() {
    return [...fields, order, many, search].filter((field) => field.value).map((field) => [field.name, field.value]);
  }

  function save() {
    const pairs = page ? [...state(), ["page", page + 1]] : state();
    const text = new URLSearchParams(pairs).toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  async function restore() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    const one = /^#episode-(\d+)$/.exec(location.hash);
    for (const field of [...fields, order, many]) {
      const value = wanted.get(field.name) ?? "";
      field.value = [...field.options].some((option) => option.value === value) ? value : "";
    }
    search.value = wanted.get("search") ?? "";
    page = Number.parseInt(wanted.get("page") ?? "1", 10) - 1 || 0;
    if (one) {
      const item = index.numbers.indexOf(Number(one[1]));
      page = Math.max(0, find()[0].findIndex((groups) => groups.some(([, items]) => items.includes(item))));
    }
    await apply();
    if (one) document.getElementById(one[0].slice(1))?.scrollIntoView();
  }

  function go(to) {
    page = to;
    const ready = apply();
    save();
    document.getElementById("episodes").scrollIntoView();
    return ready;
  }

  const steps = [["first", "«", () => 0], ["previous", "‹", () => page - 1], null, ["next", "›", () => page + 1], ["last", "»", () => pages.length - 1]];
  for (const pager of pagers) {
    for (const step of steps) {
      const part = document.createElement(step ? "button" : "span");
      if (step) {
        const [name, sign, to] = step;
        part.type = "button";
        part.textContent = sign;
        part.title = part.ariaLabel = `${name} page`;
        part.addEventListener("click", () => go(to()));
      }
      pager.append(part);
    }
  }
  const changed = () => { page = 0; apply(); save(); };
  form.addEventListener("change", changed);
  search.addEventListener("input", changed);
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    for (const field of [...fields, order, many, search]) field.value = "";
    changed();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", async () => {
    const view = location.hash.includes("=");
    if (!view && location.hash && !location.hash.startsWith("#episode-")) return;
    await restore();
    if (view) document.getElementById("episodes").scrollIntoView();
  });
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  form.hidden = false;
  if (!sections) drawn = JSON.stringify([[], 0]); // the first page stands in the document
  restore();
})();
