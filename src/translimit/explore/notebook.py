# /// script
# [tool.marimo.display]
# theme = "system"
# ///
"""The page itself, as marimo runs it; the panels are plain functions in files of their own."""

import marimo

app = marimo.App(width="medium", app_title="translimit explore")


@app.cell
def _():
    from dataclasses import replace

    import marimo as mo

    from translimit.core import TranslimitError
    from translimit.describe import PUBLIC_MODELS
    from translimit.explore import CHOICES, PANELS, SLIDERS, TEXTS, View, page, warm

    return (
        CHOICES,
        PANELS,
        PUBLIC_MODELS,
        SLIDERS,
        TEXTS,
        TranslimitError,
        View,
        mo,
        page,
        replace,
        warm,
    )


@app.cell
def _(PANELS, TranslimitError, View, mo):
    # No global name holds the parameters, so that writing them below runs nothing again.
    _query = mo.query_params().to_dict()
    _refusal = ""
    try:
        _start = View.from_query(_query)
    except TranslimitError as _error:
        _panel = _query.get("panel")
        _start = View(panel=_panel) if _panel in PANELS else View()
        _refusal = f"The address was not understood; this is the default. {_error}"
    current = {"view": _start}
    get_start, set_start = mo.state(_start)
    get_refusal, set_refusal = mo.state(_refusal)
    return current, get_refusal, get_start, set_refusal, set_start


@app.cell
def _(mo, page):
    mo.Html(
        '<div class="tl"><h1 style="font-size:1.5rem;font-weight:700">What the limits '
        "predict</h1><p>Describe an architecture, move the sliders, and see what each infinite "
        "limit says of it.</p></div>"
    )
    return


@app.cell
def _(PUBLIC_MODELS, TranslimitError, current, mo, set_refusal, set_start):
    def _read(described, second):
        old = current["view"]
        try:
            found = old.described_by(described)
            found = old.compared_with(found) if second else found
        except TranslimitError as error:
            set_refusal(str(error))
            return
        set_refusal("")
        set_start(found)

    def _uploaded(files, second):
        if files:
            _read(files[0].contents.decode("utf-8", errors="replace"), second)

    def _beside(second):
        set_start(current["view"].compared_with(second and current["view"]))

    text = mo.ui.text_area(
        label="config.json, our own format, a name, or heads=12,head_dim=64,layers=12",
        value=current["view"].config,
        rows=4,
        full_width=True,
    )
    read = mo.ui.button(label="Read it", on_click=lambda _: _read(text.value, False))
    load = mo.ui.file(label="or load a config.json", on_change=lambda one: _uploaded(one, False))
    known = mo.ui.dropdown(
        list(PUBLIC_MODELS), label="or take", on_change=lambda one: one and _read(one, False)
    )
    keep = mo.ui.button(label="Keep these sliders as the second", on_click=lambda _: _beside(True))
    other = mo.ui.button(label="Read it as the second", on_click=lambda _: _read(text.value, True))
    load_other = mo.ui.file(
        label="or load the second's config.json", on_change=lambda one: _uploaded(one, True)
    )
    drop = mo.ui.button(label="No second", on_click=lambda _: _beside(False))
    mo.accordion(
        {
            "Describe an architecture": mo.vstack(
                [text, mo.hstack([read, load, known], wrap=True, justify="start")]
            ),
            "Compare with a second architecture": mo.vstack(
                [
                    mo.Html(
                        "<p>Its curves are drawn dashed in the same charts; the sliders move the "
                        "first.</p>"
                    ),
                    mo.hstack([keep, other, load_other, drop], wrap=True, justify="start"),
                ]
            ),
        },
        multiple=True,
    )
    return (text,)


@app.cell
def _(get_refusal, mo, page):
    mo.Html(page.notice_html(get_refusal())) if get_refusal() else None
    return


@app.cell
def _(current, mo, replace, set_start):
    def _drawn(_):
        old = current["view"]
        set_start(replace(old, seed=old.seed + 1, moved=""))

    draw = mo.ui.button(label="draw other starts", on_click=_drawn)
    return (draw,)


@app.cell
def _(CHOICES, PANELS, SLIDERS, TEXTS, draw, get_start, mo, page):
    _start = get_start()
    sliders = mo.ui.dictionary(
        {
            name: mo.ui.slider(
                steps=slider.stops(getattr(_start, name)),
                value=getattr(_start, name),
                label=slider.label,
                show_value=True,
                full_width=True,
            )
            for name, slider in SLIDERS.items()
        }
    )
    choices = mo.ui.dictionary(
        {
            name: mo.ui.dropdown(choice.names, value=getattr(_start, name), label=choice.label)
            for name, choice in CHOICES.items()
        }
    )
    texts = mo.ui.dictionary(
        {
            name: mo.ui.text(
                value=getattr(_start, name),
                label=text.label,
                placeholder=text.example,
                full_width=True,
                debounce=400,
            )
            for name, text in TEXTS.items()
        }
    )
    panel = mo.ui.dropdown(
        {kind.title: name for name, kind in PANELS.items()},
        value=PANELS[_start.panel].title,
        label="Panel",
    )
    mo.vstack(
        [
            panel,
            mo.Html(
                '<div class="tl-sliders">'
                + "".join(page.slider_html(name, one) for name, one in sliders.items())
                + "".join(
                    f'<div class="tl-{name}">{one}</div>'
                    for name, one in [*choices.items(), ("seed", draw), *texts.items()]
                )
                + "</div>"
            ),
        ]
    )
    return choices, panel, sliders, texts


@app.cell
def _(SLIDERS, TranslimitError, choices, current, get_start, panel, replace, sliders, texts):
    refused = None
    try:
        _values = {name: SLIDERS[name].kind(value) for name, value in sliders.value.items()}
        _others = choices.value | texts.value
        view = replace(get_start(), panel=panel.value, **_values, **_others)
        current["view"] = view
    except TranslimitError as _error:
        view, refused = None, _error
    return refused, view


@app.cell
def _(TranslimitError, current, mo, page, panel, refused, view, warm):
    found = None
    if view is None:
        _shown = page.message_html(refused, panel.value)
    else:
        try:
            if warm.is_ready(view):
                found = warm.compute(view)
            elif current.get("answered") == view.panel:  # the old answer stands, and says so
                mo.output.replace(mo.Html(page.stale_html(current["shown"])))
                found = warm.compute(view)
            else:
                with mo.status.spinner(
                    title="Computing", subtitle="the first time at these sizes takes longer"
                ):
                    found = warm.compute(view)
            _shown = page.panel_html(view.panel, found, view.to_query())
            current.update(shown=_shown, answered=view.panel)
        except TranslimitError as _error:
            _shown = page.message_html(_error, view.panel)
    mo.Html(_shown)
    return (found,)


@app.cell
def _(found, mo, page, view):
    mo.Html(page.details_html(view, found)) if found is not None else None
    return


@app.cell
def _(mo, view):
    from urllib.parse import parse_qsl

    _address = mo.query_params()
    _wanted = dict(parse_qsl(view.to_query())) if view is not None else {}
    for _name in [_one for _one in _address.to_dict() if _one not in _wanted]:
        _address.remove(_name)
    for _name, _value in _wanted.items():
        if _address.get(_name) != _value:
            _address.set(_name, _value)
    return


if __name__ == "__main__":
    app.run()
