// Says when a page that keeps itself up to date gets no answer, so that nobody takes old figures for new ones.
// Everything else works without scripts.
(() => {
  const shown = (visible) => {
    const notice = document.getElementById("no-answer");
    if (notice) notice.hidden = !visible;
  };
  document.addEventListener("htmx:sendError", () => shown(true));
  document.addEventListener("htmx:responseError", () => shown(true));
  document.addEventListener("htmx:afterOnLoad", () => shown(false));
})();
