// Says when a page that keeps itself up to date gets no answer, so that nobody takes old figures for new ones.
// A preview follows what is typed, and a counter counts it. Everything works without scripts.
(() => {
  const shown = (visible) => {
    const notice = document.getElementById("no-answer");
    if (notice) notice.hidden = !visible;
  };
  document.addEventListener("htmx:sendError", () => shown(true));
  document.addEventListener("htmx:responseError", () => shown(true));
  document.addEventListener("htmx:afterOnLoad", () => shown(false));

  // A fresh frame each time: what a frame loads first leaves no step in the history behind.
  const renew = (form, button) => {
    const frame = document.getElementById(form.dataset.previews);
    if (!frame || !button) return;
    const fresh = frame.cloneNode(false);
    fresh.removeAttribute("src");
    frame.replaceWith(fresh);
    form.requestSubmit(button);
  };
  let pause = 0;
  document.addEventListener("input", (event) => {
    const form = event.target.form;
    if (!form || !form.dataset.previews) return;
    const part = event.target.closest("section");
    const button = (part && part.querySelector("[data-preview-button]")) || form.querySelector("[data-preview-button]");
    clearTimeout(pause);
    pause = setTimeout(() => renew(form, button), 500);
  });

  // Enter in a search within a form searches, rather than to send the form. Not while a word is being composed.
  document.addEventListener("keydown", (event) => {
    const search = event.target.closest("[data-enter]");
    if (event.key !== "Enter" || event.isComposing || !search || !event.target.matches("input[type=search]")) return;
    event.preventDefault();
    search.querySelector("button").click();
  });

  // Where the preview stands below, the button that renews it also leads there.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-preview-button]");
    const frame = button && document.getElementById(button.form.dataset.previews);
    if (frame && frame.getBoundingClientRect().top > window.innerHeight) frame.parentElement.scrollIntoView();
  });

  for (const counter of document.querySelectorAll("[data-counts]")) {
    const field = document.getElementById(counter.dataset.counts);
    const count = () => {
      counter.querySelector(".counter-value").textContent = field.value.length;
      counter.classList.toggle("counter-over", field.value.length > Number(counter.dataset.limit));
    };
    field.addEventListener("input", count);
    counter.hidden = false;
    count();
  }

  // A form that came back with errors: on with the first field that has one.
  const wrong = document.querySelector('main [aria-invalid="true"]');
  if (wrong) (wrong.matches("fieldset") ? wrong.querySelector("input") : wrong).focus();

  // Tabs that do not all fit: the present one is seen.
  for (const tab of document.querySelectorAll(".tabs [aria-current]")) {
    const bar = tab.closest(".tabs");
    const start = tab.getBoundingClientRect().left - bar.getBoundingClientRect().left;
    bar.scrollLeft = start - Math.max(0, bar.clientWidth - tab.offsetWidth) / 2;
  }

  // One box ticks all of its name in the same form; without scripts each is ticked by itself.
  for (const all of document.querySelectorAll("[data-checks]")) {
    const boxes = () => [...all.form.elements].filter((box) => box.name === all.dataset.checks);
    all.hidden = false;
    all.addEventListener("change", () => boxes().forEach((box) => (box.checked = all.checked)));
    all.form.addEventListener("change", () => {
      const ticked = boxes().filter((box) => box.checked).length;
      all.checked = ticked > 0 && ticked === boxes().length;
      all.indeterminate = ticked > 0 && !all.checked;
    });
  }
})();
