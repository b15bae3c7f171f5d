// What the pages do beyond HTML: each works without it, only less smoothly.
(() => {
  "use strict";

  // Times are written in the server's zone; here they go into the reader's.
  // Today's go without their day, those of another year with it, and those of a
  // story to the second.
  const clock = { hour: "2-digit", minute: "2-digit" }, day = { day: "numeric", month: "short" };
  const shapes = [clock, { weekday: "short", ...day, ...clock }, { ...day, year: "numeric", ...clock }].map((shape) => [new Intl.DateTimeFormat(undefined, shape), new Intl.DateTimeFormat(undefined, { ...shape, second: "2-digit" })]);
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  const zone = exact.resolvedOptions().timeZone;
  const localTimes = () => {
    document.querySelectorAll("time[datetime]").forEach((t) => {
      const at = new Date(t.dateTime), now = new Date();
      const today = at.toDateString() === now.toDateString();
      const shape = shapes[today ? 0 : at.getFullYear() === now.getFullYear() ? 1 : 2][t.closest(".story") ? 1 : 0];
      const text = (today ? "today " : "") + shape.format(at);
      if (t.textContent !== text) t.textContent = text;
      if (!t.title) t.title = exact.format(at);
    });
    document.querySelectorAll(".zone").forEach((z) => { if (z.textContent !== zone) z.textContent = zone; });
  };

  // A form that was sent is not sent twice, and its answer is waited for.
  let leaving = false;
  document.addEventListener("submit", (e) => {
    if (e.defaultPrevented || e.target.method !== "post") return;
    leaving = true;
    setTimeout(() => e.target.querySelectorAll("button").forEach((b) => { b.disabled = true; }), 0);
  });
  addEventListener("pageshow", () => {
    leaving = false;
    document.querySelectorAll("form[method=post] button[disabled]").forEach((b) => { b.disabled = false; });
  });

  // A menu over a column is followed at once: what the column is now, no other is.
  // Without a column of addresses it waits for the next choice.
  document.getElementById("columns")?.addEventListener("change", (e) => {
    const menus = [...e.currentTarget.querySelectorAll("select[name=meaning]")];
    if (!["", "metadata"].includes(e.target.value)) menus.forEach((m) => { if (m !== e.target && m.value === e.target.value) m.value = ""; });
    if (menus.some((m) => m.value === "email")) e.currentTarget.requestSubmit();
  });

  // Times of a draft are meant in the reader's own zone, unless they say another.
  const tz = document.querySelector("#start input[name=tz]");
  if (tz && !tz.value) tz.value = zone;

  const upload = document.getElementById("upload");
  if (upload) {
    const input = upload.querySelector("input[type=file]"), bar = upload.querySelector("progress"), button = upload.querySelector("button"), hint = upload.querySelector(".hint");
    const promise = hint.textContent;
    const trouble = (text) => {
      bar.hidden = true;
      hint.textContent = promise;
      button.disabled = false;
      const note = document.createElement("p");
      note.className = "problem";
      note.setAttribute("role", "alert");
      note.textContent = text;
      upload.append(note);
    };
    const send = () => {
      if (!input.files.length || button.disabled) return;
      upload.querySelector("[role=alert]")?.remove();
      if (input.files.length > 1) { trouble("One file at a time. Nothing was sent."); return; }
      // The server would break off an upload half way, which looks like a lost connection.
      if (input.files[0].size > upload.dataset.most) { trouble(upload.dataset.larger); return; }
      const request = new XMLHttpRequest();
      button.disabled = true;
      bar.hidden = false;
      hint.textContent = "It is being sent…";
      request.upload.addEventListener("progress", (e) => { if (e.lengthComputable) bar.value = 100 * e.loaded / e.total; });
      request.upload.addEventListener("load", () => { hint.textContent = "It is here, and is being checked…"; });
      request.addEventListener("load", () => {
        if (request.status < 400) { location.assign(request.responseURL); return; }
        const answer = new DOMParser().parseFromString(request.responseText, "text/html");
        trouble([...answer.querySelectorAll("main h1, main h1 + p")].map((e) => e.textContent).join(" ") || "The upload was refused.");
      });
      request.addEventListener("error", () => {
        button.classList.remove("unscripted");
        trouble("The connection was lost. Nothing was kept: send it once more.");
      });
      request.open("POST", upload.action);
      request.send(new FormData(upload));
    };
    addEventListener("pageshow", (e) => { if (e.persisted) location.reload(); }); // back from what came of a file
    upload.addEventListener("submit", (e) => { e.preventDefault(); send(); });
    input.addEventListener("change", send);
    // A file that misses the frame is meant for it, and not for the browser to show.
    const over = (e, is) => { e.preventDefault(); upload.classList.toggle("over", is); };
    addEventListener("dragover", (e) => over(e, true));
    addEventListener("dragleave", (e) => over(e, !!e.relatedTarget));
    addEventListener("drop", (e) => {
      over(e, false);
      if (button.disabled) return;
      input.files = e.dataTransfer.files;
      send();
    });
  }

  // What was done is said once: a page that is loaded anew says how it is now.
  const here = new URL(location);
  if (here.searchParams.has("done")) {
    here.searchParams.delete("done");
    history.replaceState(history.state, "", here);
  }

  // What can be done to a batch changes with its state: then the page is loaded anew.
  const state = () => document.querySelector("#live [data-state]")?.dataset.state;
  const began = state();
  document.addEventListener("htmx:sse:after:message", () => { if (state() !== began && !leaving) location.reload(); });

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

  localTimes();
  ["htmx:after:swap", "htmx:sse:after:message"].forEach((name) => document.addEventListener(name, localTimes));
  setInterval(localTimes, 60_000); // what is today's is yesterday's tomorrow
})();
