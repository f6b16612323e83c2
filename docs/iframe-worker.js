/* The search runs in a worker, and browsers start no worker for a page that is opened as a file. There, this runs the
   worker's script in a hidden frame instead. MkDocs' plugin `offline` would fetch such a script from the net: it does
   not if one is named `iframe-worker` in mkdocs.yml. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = frame.contentWindow;
      inside.postMessageToFrame = inside.postMessage.bind(inside);
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = frame.contentDocument.createElement("script");
      script.src = url;
      this.post = new Promise(resolve => { script.onload = () => resolve(inside.postMessageToFrame); });
      frame.contentDocument.body.append(script);
    }
    postMessage(data) {
      this.post.then(post => post(data, "*"));
    }
  };
}
