"""The scenes that the starter is trained on, rendered from packages and from nothing.

The way of the data: `tools.objects` fetches packages and builds one file of named pictures with real alpha,
which `objects` reads; `backgrounds` paints places in three lights; `scenes` rolls what stands where and `words`
says it, with the combinations that are held out for measuring; `render` draws the foregrounds in batches, on
whichever device the pictures are, and composes them over the background.
"""
