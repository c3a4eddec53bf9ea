import httpx, json, time, pytest, traceback
def test_a(server):
    from gradio_client import Client
    import openai
    c=Client(server.url, verbose=False)
    t=time.time()
    for args in [dict(text="Hello there.", seed=7, api_name="/speak"), dict(messages=[{"role":"user","content":"Say hi"}], max_new_tokens=8, seed=7, api_name="/chat"), dict(api_name="/models"), dict(task="",api_name="/stop"),
      dict(text="", api_name="/speak"), dict(api_name="/caption"), dict(image="/etc/passwd", api_name="/caption"), dict(image={"path":"/etc/passwd","meta":{"_type":"gradio.FileData"}}, api_name="/caption"), dict(image={"path":"/etc/passwd"}, api_name="/caption"), dict(messages="x", lang="zh", api_name="/chat"), dict(messages=[{"role":"user","content":"Say hi"}], temperature="abc", api_name="/chat")]:
        try:
            r=c.predict(**args); print(time.time()-t, str(r)[:600])
        except Exception as e: print(args, type(e), str(e)[:400])
    o=openai.OpenAI(base_url=server.url+"/v1", api_key="x")
    r=o.chat.completions.create(model="smollm2-135m", messages=[{"role":"user","content":"Say hi"}], max_tokens=8, seed=7, temperature=0); print(r)
    for ch in o.chat.completions.create(model="default", messages=[{"role":"user","content":"Count to ten"}], max_tokens=30, stream=True, stream_options={"include_usage":True}, stop=["3"], temperature=0): print(ch.choices and ch.choices[0].delta.content, ch.choices and ch.choices[0].finish_reason, ch.usage)
    e=o.embeddings.create(model="default", input=["a cat","a dog"]); print(len(e.data), len(e.data[0].embedding), e.model)
    for f in ("mp3","wav","pcm"):
        a=o.audio.speech.create(model="default", voice="alloy", input="Hi there", response_format=f); print(f, len(a.content))
    for fn in (lambda: o.chat.completions.create(model="nope", messages=[{"role":"user","content":"x"}]), lambda: o.chat.completions.create(model="default", messages=[], n=2), lambda: o.images.generate(prompt="x", model="default"), lambda: o.chat.completions.create(model="default", messages=[{"role":"user","content":"x"}], temperature=9)):
        try: print(fn())
        except openai.APIError as e: print(type(e), e)
    print(httpx.get(server.url+"/metrics").text)
    # raw
    for body in ({"image":"/etc/passwd"}, {"image":{"path":"/etc/passwd","meta":{"_type":"gradio.FileData"}}}, {"image":{"path":"http://127.0.0.1/x.png","meta":{"_type":"gradio.FileData"}}}, {"image":{"url":"http://127.0.0.1/x.png","path":"x", "meta":{"_type":"gradio.FileData"}}}, {"bogus":1}, [1], {}):
        r=httpx.post(server.url+"/gradio_api/call/v2/caption", json=body); print(body, r.status_code, r.text[:200])
        if r.status_code==200: print(httpx.get(server.url+"/gradio_api/call/caption/"+r.json()["event_id"], timeout=30).text[:500])
