"""The look of the report: system fonts, two colours for the two models, light and dark, narrow and wide, and paper."""

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1d1f22; --soft: #5f6672; --line: #dfe1e4; --faint: #eef0f1;
  --head: #b3600c; --fine-tuned: #1f55a5; --base: #7b818b; --wrong: #b23a2e }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #141618; --ink: #e6e7e9; --soft: #a2a9b4;
  --line: #33383f; --faint: #23272c; --head: #eda658; --fine-tuned: #84b4f4; --base: #8f96a1;
  --wrong: #f0857a } }
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1.5rem; scroll-behavior: smooth;
  -webkit-print-color-adjust: exact; print-color-adjust: exact }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto } }
body { margin: 0 auto; padding: 3rem 1.5rem 5rem; max-width: 54rem;
  background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif }
h1, h2, h3, .lead { font-family: "Iowan Old Style", "Palatino Linotype", Palatino, "URW Palladio L", Georgia,
  "Liberation Serif", serif; font-weight: 500; line-height: 1.25; text-wrap: balance }
h1 { font-size: 2.5rem; letter-spacing: -.01em; margin: 0 0 1.5rem }
h2 { font-size: 1.625rem; margin: 4rem 0 1.25rem; padding-top: 1rem; border-top: 1px solid var(--line) }
h3 { font-size: 1.25rem; margin: 2.5rem 0 .25rem }
.eyebrow { margin: 0 0 .5rem; color: var(--soft); font-size: .875rem; letter-spacing: .02em }
.lead { font-size: 1.5rem; line-height: 1.4; margin: 0 0 .75rem; max-width: 42rem; text-wrap: pretty }
.lead b { font-weight: 600 }
.second { font-size: 1.0625rem; margin: 0 0 .75rem; max-width: 42rem }
.second + figure { margin-top: 2rem }
figcaption, dt { font-size: .9375rem; font-weight: 600; margin: 0 0 .5rem }
p { margin: .75rem 0; max-width: 42rem }
a { color: inherit; text-decoration-color: var(--line); text-underline-offset: .2em }
a:hover, a:focus-visible { text-decoration-color: currentColor }
code { font: .875em ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace }
.soft, nav, small { color: var(--soft) }
.soft, small { font-size: .875rem }
nav ol { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; margin: 2rem 0 0;
  padding: 0; font-size: .9375rem }
nav a { text-decoration: none }
nav a:hover, nav a:focus-visible { color: var(--ink); text-decoration: underline }
figure { margin: 1.5rem 0; min-width: 0 }
.grid figure { margin: 0 }
.grid { display: grid; gap: 2rem 3rem; margin: 1.5rem 0; grid-template-columns: minmax(0, 1fr) }

table { border-collapse: collapse; font-variant-numeric: tabular-nums lining-nums; font-size: .9375rem;
  line-height: 1.35; overflow-wrap: normal }
th, td { padding: .45rem .9rem .45rem 0; vertical-align: top; border-bottom: 1px solid var(--line) }
th { text-align: left; font-weight: 500 }
thead th { color: var(--soft); font-weight: 400 }
td, th.number { text-align: right; white-space: nowrap }
td.text { text-align: left; white-space: normal; overflow-wrap: anywhere }
td small { display: block; font-size: .78rem }
.aligned td small { display: inline-block; min-width: 7.4rem; font-size: .8125rem }
.aligned td:nth-child(4) small { min-width: 9.6rem }
.aligned td { padding-block: .3rem }
td b { font-weight: 650 }
tbody tr:last-child > * { border-bottom: 0 }
tr.part th { padding-top: 1.1rem; color: var(--soft); font-weight: 400 }
.wide { width: 100% }
.wide tbody th { overflow-wrap: anywhere; min-width: 6rem }
.wide th:last-child, .wide td:last-child { padding-right: 0 }
.pairs th, .pairs td { padding-block: .25rem }
.pairs th { width: 15rem }
.scroll { overflow-x: auto; margin: .5rem 0 1rem }
.scroll:focus-visible { outline: 2px solid var(--line); outline-offset: 2px }
.matrix th { border: 0; padding: .5rem .7rem .5rem 0; color: var(--soft); font-weight: 400; vertical-align: middle }
.matrix thead th { vertical-align: bottom }
.matrix thead th + th, .matrix thead td + th { padding: .5rem .7rem; text-align: center }
.matrix td { border: 2px solid var(--paper); padding: .5rem .7rem; min-width: 3.6rem; text-align: center;
  background: color-mix(in srgb, var(--cell, var(--base)) calc(var(--shade, 0) * 60%), var(--faint)) }
.matrix thead td { background: none; border: 0 }
.matrix tbody tr:last-child > td { border-bottom: 2px solid var(--paper) }
.matrix .wrong { --cell: var(--wrong) }
.matrix .right { color: var(--soft) }
.matrix .none { background: none; box-shadow: inset 0 0 0 1px var(--faint) }
.matrix tbody th { position: sticky; left: 0; background: var(--paper); max-width: 11rem; overflow-wrap: break-word }
.matrix td small { color: inherit; opacity: .8 }
.matrix.tall { font-size: .8125rem }
.matrix.tall thead th + th { padding: .5rem .2rem }
.matrix.tall thead th span { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; max-height: 9rem;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.matrix.tall td { padding: .3rem; min-width: 3.1rem }
.matrix.tall td small { display: block; font-size: .6875rem }
.named th small { display: block; font-size: .8125rem }
.confusions { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem 1.5rem }
.confused { display: grid; grid-template-columns: 4.5rem minmax(0, 1fr); gap: .75rem; align-items: center;
  font-size: .875rem; line-height: 1.35 }
.confused > p:only-child { grid-column: 1 / -1 }
.confused p { margin: 0 }
.confused p span { display: block; color: var(--wrong) }
.confused small { display: block; font-size: .75rem }
.confused img, .confused .gone { width: 4.5rem; aspect-ratio: 1; border-radius: 2px }
details { margin: 1rem 0; font-size: .9375rem }
summary { cursor: pointer; color: var(--soft) }

.head { --model: var(--head) } .fine_tuned { --model: var(--fine-tuned) } .base { --model: var(--base) }
.ahead { --model: var(--head) }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; font-size: .9375rem; margin: 0 0 1rem }
.legend span::before { content: ""; display: inline-block; width: 1.6rem; margin-right: .5rem;
  border-top: 2px solid var(--model); vertical-align: .25em }
.legend .head::before { border-top-style: dashed }

.estimates { font-variant-numeric: tabular-nums lining-nums; font-size: .9375rem; line-height: 1.35 }
.estimate { display: grid; grid-template-columns: 13.5rem minmax(6rem, 1fr) 10.5rem; gap: 1.25rem }
.estimate > * { align-self: center }
.estimate .name small, .numbers small { font-size: .8125rem }
.estimate .name small { display: block }
.estimate .name:has(small) { padding-block: .3rem }
.numbers { display: grid; gap: .1rem }
.numbers span { display: flex; justify-content: space-between; align-items: baseline; gap: .6rem; white-space: nowrap }
.track { position: relative; align-self: stretch; min-height: 2.4rem }
.track.many2 { min-height: 3.2rem }
.track svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible }
.track line { stroke: var(--model); stroke-width: 4; stroke-linecap: round; stroke-opacity: .4 }
.track line.grid { stroke: var(--line); stroke-width: 1; stroke-opacity: 1 }
.track line.mark { stroke: var(--soft); stroke-width: 1; stroke-opacity: 1; stroke-dasharray: 3 4 }
.track circle { fill: var(--model) }
.axis .track { min-height: 1.4rem; font-size: 12px }
.track text { fill: var(--soft); text-anchor: middle }

svg.lines { display: block; width: 100%; max-width: 26rem; height: auto; font-size: 12px;
  font-variant-numeric: tabular-nums }
.lines text { fill: var(--soft) }
.lines .x { text-anchor: middle }
.lines .y { text-anchor: end }
.lines .frame { fill: none; stroke: var(--line) }
.lines .ticks { stroke: var(--line); stroke-width: .6 }
.lines .diagonal { stroke: var(--soft); stroke-dasharray: 1 4; stroke-linecap: round }
.lines polyline { fill: none; stroke: var(--model); stroke-width: 1.8; stroke-linejoin: round }
.lines polyline.head { stroke-dasharray: 5 3 }
.lines polyline.ahead { stroke-dasharray: 1 4; stroke-linecap: round }
.lines polygon { fill: var(--model); fill-opacity: .14 }
.lines circle { fill: var(--model) }

img { display: block; max-width: 100%; height: auto }
.wide-picture img { width: 100%; border-radius: 3px }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 2rem 1.5rem;
  margin: 1.25rem 0 }
.card { margin: 0; font-size: .8125rem; line-height: 1.45 }
.card figcaption { font-size: .8125rem; margin-bottom: .35rem }
.card figcaption small, .near small { font-size: .75rem; font-weight: 400 }
.card .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 2px }
.card img, .card .gone { width: 100%; aspect-ratio: 1; border-radius: 2px }
.gone { display: grid; place-items: center; background: var(--faint); color: var(--soft); font-size: .75rem;
  text-align: center }
.card .single img, .card .single .gone { width: 50% }
.card ul { list-style: none; margin: .4rem 0; padding: 0; font-variant-numeric: tabular-nums lining-nums }
.card li { display: grid; grid-template-columns: 5.6rem minmax(0, 1fr) auto; gap: .4rem;
  border-bottom: 1px solid var(--faint) }
.card li > :first-child { color: var(--soft) }
.card li > :last-child { text-align: right; white-space: nowrap }
.card .wrong > :nth-child(2) { color: var(--wrong); font-weight: 600 }
.near { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 2px }
.near span { line-height: 1.25 }
.near small { display: block; margin-top: .15rem; text-align: center }
.near bdi { display: block; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.near .other small { color: var(--wrong) }

dl { display: grid; grid-template-columns: 9rem minmax(0, 1fr); gap: .5rem 1rem; margin: 1.5rem 0; font-size: .9375rem }
dt { margin: 0; font-weight: 500; color: var(--soft) }
dd { margin: 0; max-width: 38rem; white-space: pre-line }
ul.columns { columns: 14rem; margin: 0; padding-left: 1.1rem; font-size: .875rem }

@media (min-width: 44rem) { .grid.two { grid-template-columns: repeat(2, minmax(0, 1fr)) } }
@media (min-width: 78rem) {
  body { max-width: 74rem; display: grid; grid-template-columns: 9rem minmax(0, 1fr); column-gap: 4rem }
  header, main { grid-column: 2 }
  nav { grid-column: 1; grid-row: 1 / span 2 }
  nav ol { position: sticky; top: 3rem; flex-direction: column; margin: 0 }
}
@media (max-width: 40rem) {
  body { padding: 1.75rem 1rem 3rem }
  h1 { font-size: 1.875rem; margin-bottom: 1rem }
  .lead { font-size: 1.25rem }
  .second { font-size: 1rem }
  h2 { margin-top: 3rem }
  .wide { font-size: .8125rem }
  .wide td, .wide th { padding-right: .5rem }
  .wide td small { font-size: .6875rem }
  .estimate { grid-template-columns: minmax(0, 1fr) auto; gap: 0 .75rem; margin-top: .6rem; font-size: .875rem }
  .estimate .name { grid-column: 1; grid-row: 1 }
  .estimate .name { padding-block: 0 }
  .estimate .numbers { grid-column: 2; grid-row: 1 }
  .estimate .track { grid-column: 1 / -1; min-height: 1.6rem; margin: 0 .75rem }
  .estimate .track.many2 { min-height: 2.4rem }
  .matrix.tall { font-size: .75rem }
  .matrix.tall td { min-width: 1.6rem; padding: .15rem; border-width: 1px }
  .matrix.tall td small { font-size: .5625rem }
  .matrix tbody th { max-width: 5.5rem; padding-right: .4rem }
  .named td:nth-child(4) small { display: none }
  .named th small { font-size: .6875rem }
  .aligned td small, .aligned td:nth-child(4) small { display: block; min-width: 0; font-size: .6875rem }
  td small:empty { display: none }
  .pairs th { width: auto }
  .sheet { grid-template-columns: minmax(0, 1fr) }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0 }
  dd { margin-bottom: .75rem }
}
@media print {
  @page { margin: 16mm 15mm }
  html { font-size: 9.5pt }
  body { padding: 0; max-width: none; background: none }
  nav { display: none }
  h2, h3, figcaption, p:not(:last-child) { break-after: avoid }
  .grid.two { grid-template-columns: repeat(2, minmax(0, 1fr)) }
  .sheet { grid-template-columns: repeat(3, minmax(0, 1fr)) }
  figure.card, tr, .estimate, .grid > figure { break-inside: avoid }
  .scroll { overflow: visible }
}
"""
