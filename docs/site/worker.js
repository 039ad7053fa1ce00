// A browser starts no Worker on a page that was opened from a folder. This stands in for it there: it runs the script in a hidden
// frame of the page, so that the search works without a server, and without a network.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.worker = this;
      this.frame.srcdoc =
        "<script>window.postMessage = data => frameElement.worker.dispatchEvent(new MessageEvent('message', { data }))</script>" +
        `<script src="${url}"></script>`;
      this.frame.addEventListener("load", () => {
        const early = this.waiting;
        this.waiting = null;
        early.forEach(data => this.postMessage(data));
      });
      document.body.append(this.frame);
    }
    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
