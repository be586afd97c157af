/* A page that is opened from a folder may start no Worker, and the search runs in one. Here a hidden frame stands in for
   it: the same script, the same messages. Pages that a server sends keep the browser's own. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = `<!doctype html><base href="${document.baseURI}"><script src="${url}"><\/script>`;
      this.frame.addEventListener("load", () => {
        this.ready = true;
        // What the script posts: events of a Worker are those of its owner.
        this.frame.contentWindow.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
        this.waiting.splice(0).forEach((data) => this.postMessage(data));
      });
      document.documentElement.append(this.frame);
    }

    postMessage(data) {
      if (this.ready) this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
      else this.waiting.push(data);
    }

    terminate() {
      this.frame.remove();
    }
  };
}
