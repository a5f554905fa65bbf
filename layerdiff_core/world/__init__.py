"""The scenes that the starter is trained on, rendered from object images and painted places.

The data flow: `tools.objects` downloads packages and builds a file of named images with alpha, which `objects` reads.
`backgrounds` paints places in three lights. `scenes` draws random scenes, without the combinations held out for evaluation, and
`words` describes them. `render` draws the foregrounds in batches, on the device of the images, and composites them over the
background; `renderer` keeps images and places on a device and draws random scenes from them.
"""
