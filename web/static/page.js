// What the pages do beyond HTML: each works without it, only less smoothly.
(() => {
  "use strict";

  // Times are written in the server's zone; here they go into the reader's.
  const shape = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  const localTimes = (root) => root.querySelectorAll("time[datetime]:not([title])").forEach((t) => {
    const at = new Date(t.dateTime);
    t.textContent = shape.format(at);
    t.title = exact.format(at);
  });

  // A form that was sent is not sent twice.
  document.addEventListener("submit", (e) => {
    if (e.defaultPrevented || e.target.method !== "post") return;
    setTimeout(() => e.target.querySelectorAll("button").forEach((b) => { b.disabled = true; }), 0);
  });
  addEventListener("pageshow", () => document.querySelectorAll("form[method=post] button[disabled]").forEach((b) => { b.disabled = false; }));

  // A menu over a column is followed at once: what the column is now, no other is.
  // Without a column of addresses it waits for the next choice.
  document.getElementById("columns")?.addEventListener("change", (e) => {
    const menus = [...e.currentTarget.querySelectorAll("select[name=meaning]")];
    if (!["", "metadata"].includes(e.target.value)) menus.forEach((m) => { if (m !== e.target && m.value === e.target.value) m.value = ""; });
    if (menus.some((m) => m.value === "email")) e.currentTarget.requestSubmit();
  });

  // Times of a draft are meant in the reader's own zone, unless they say another.
  const zone = document.querySelector("#start input[name=tz]");
  if (zone && !zone.value) zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;

  const upload = document.getElementById("upload");
  if (upload) {
    const input = upload.querySelector("input[type=file]"), bar = upload.querySelector("progress");
    const send = () => {
      if (!input.files.length) return;
      const request = new XMLHttpRequest();
      upload.querySelector("button").disabled = true;
      bar.hidden = false;
      request.upload.addEventListener("progress", (e) => { if (e.lengthComputable) bar.value = 100 * e.loaded / e.total; });
      const trouble = (text) => {
        bar.hidden = true;
        upload.querySelector("button").disabled = false;
        let note = upload.querySelector("[role=alert]");
        if (!note) {
          note = document.createElement("p");
          note.className = "problem hint";
          note.setAttribute("role", "alert");
          upload.append(note);
        }
        note.textContent = text;
      };
      request.addEventListener("load", () => {
        if (request.status < 400) { location.assign(request.responseURL); return; }
        const answer = new DOMParser().parseFromString(request.responseText, "text/html");
        trouble([...answer.querySelectorAll("main h1, main h1 + p")].map((e) => e.textContent).join(" ") || "The upload was refused.");
      });
      request.addEventListener("error", () => trouble("The connection was lost. Nothing was kept: send it once more."));
      request.open("POST", upload.action);
      request.send(new FormData(upload));
    };
    upload.addEventListener("submit", (e) => { e.preventDefault(); send(); });
    input.addEventListener("change", send);
    ["dragenter", "dragover"].forEach((name) => upload.addEventListener(name, (e) => { e.preventDefault(); upload.classList.add("over"); }));
    ["dragleave", "drop"].forEach((name) => upload.addEventListener(name, (e) => { e.preventDefault(); upload.classList.remove("over"); }));
    upload.addEventListener("drop", (e) => { input.files = e.dataTransfer.files; send(); });
  }

  // What can be done to a batch changes with its state: then the page is loaded anew.
  const state = () => document.querySelector("#live [data-state]")?.dataset.state;
  const began = state();
  document.addEventListener("htmx:sse:after:message", () => { if (state() !== began) location.reload(); });

  // Numbers that may be old are called so, until the server answers again; who is
  // not signed in any more is sent to do so.
  const live = document.getElementById("live"), lost = document.getElementById("lost");
  const failed = (e, status) => {
    if (status === 401) location.reload();
    if (e.target === live) lost.hidden = false;
  };
  // The first connection is htmx's own, which does not try again by itself.
  const first = (e, status) => {
    failed(e, status);
    if (e.target === live) setTimeout(() => htmx.trigger(live, "again"), 2000);
  };
  document.addEventListener("htmx:sse:error", (e) => failed(e, e.detail.status));
  document.addEventListener("htmx:response:error", (e) => first(e, e.detail.ctx.response.status));
  document.addEventListener("htmx:error", (e) => first(e));
  document.addEventListener("htmx:sse:after:connection", () => { lost.hidden = true; });

  // What was refused is said until something else is tried.
  document.addEventListener("change", () => { document.getElementById("trouble").hidden = true; });

  localTimes(document);
  ["htmx:after:swap", "htmx:sse:after:message"].forEach((name) => document.addEventListener(name, () => localTimes(document)));
})();
