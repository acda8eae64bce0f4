"""The page of `vtc app`, from Python: serve it beside other code, ask its endpoints as `gradio_client` does, end it."""

from gradio_client import Client, handle_file

from vtc.app.serve import serve
from vtc.app.state import AppState
from vtc.embedded.samples import samples

state = AppState.load()  # or AppState.load("Qwen/Qwen2.5-VL-3B-Instruct")
served = serve(state, port=0, wait=False)
try:
    client = Client(served.url, verbose=False)
    image = handle_file(str(samples()[0].path))
    kept, total = client.predict(image, "kcenter", 0.25, api_name="/count_image")
    full, short, *_ = client.predict(image, samples()[0].question, "kcenter", 0.25, 64, api_name="/ask_image")
    print(f"{samples()[0].question} {full!r} from {total:.0f} visual tokens, {short!r} from {kept:.0f}")
finally:
    served.close()
