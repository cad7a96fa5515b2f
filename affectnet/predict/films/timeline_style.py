"""The style of the page of timelines."""

BEGINNING = "<!doctype html><!-- affectnet predict --timeline -->"
"""By which a page is recognised that may be overwritten."""

CSS = """
:root { --paper: #fff; --ink: #1b1f24; --quiet: #5f6772; --rule: #e3e6ea; --card: #f7f8fa; --accent: #084594; --other: #b4531a; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e4e7eb; --quiet: #98a1ac; --rule: #2c3238; --card: #1b1f24; --accent: #8ab4f0; --other: #f0a36b; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -.02em; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.375rem; letter-spacing: -.01em; margin: 3rem 0 .25rem; overflow-wrap: anywhere; }
h3 { font-size: 1.0625rem; margin: 0; }
p { margin: .15rem 0; }
.lead, .note, header p { color: var(--quiet); }
.note { font-size: .875rem; margin-top: 1.5rem; }
header p { font-size: .875rem; font-variant-numeric: tabular-nums; }
.legend { position: sticky; top: 0; z-index: 1; background: var(--paper); display: flex; flex-wrap: wrap; gap: .2rem 1rem;
  padding: .6rem 0; margin-bottom: .5rem; border-bottom: 1px solid var(--rule); font-size: .875rem; }
.legend span { display: inline-flex; align-items: center; gap: .4rem; }
.legend i { width: .85rem; height: .85rem; border-radius: .2rem; }
.legend svg { width: 1.5rem; height: .625rem; }
article, .overview { background: var(--card); border-radius: .75rem; padding: 1rem 1.1rem .6rem; margin-top: 1rem;
  scroll-margin-top: 3rem; }
.overview { scroll-margin-top: 0; }
.overview h3 { font-size: .875rem; font-weight: 500; color: var(--quiet); margin-bottom: .4rem; }
.overview a { display: flex; align-items: center; color: inherit; text-decoration: none; margin: .2rem 0; }
.overview a:hover b { text-decoration: underline; }
.overview b { flex: 0 0 2.25rem; padding-right: .5rem; text-align: right; font-size: .8125rem; font-weight: 600; }
.bar { flex: 1; height: .9rem; background: var(--paper); border-radius: .2rem; }
header { display: flex; gap: 1rem; align-items: center; margin-bottom: .8rem; }
header img { border-radius: .6rem; flex: none; background: var(--rule); }
.plot { display: flex; margin-top: .5rem; }
.plot svg { flex: 1; min-width: 0; background: var(--paper); border-radius: .2rem; }
.areas svg { height: 8rem; } .lines svg { height: 5rem; overflow: visible; }
.heights { flex: 0 0 2.25rem; padding-right: .5rem; display: flex; flex-direction: column; justify-content: space-between;
  text-align: right; color: var(--quiet); font-size: .75rem; line-height: 1; font-variant-numeric: tabular-nums; }
.grid, .zero, .valence, .arousal { fill: none; vector-effect: non-scaling-stroke; }
.grid { stroke: var(--ink); stroke-opacity: .13; }
.zero { stroke: var(--quiet); stroke-opacity: .5; }
.valence, .arousal { stroke-width: 2; stroke-linejoin: round; }
.valence { stroke: var(--accent); } .arousal { stroke: var(--other); stroke-dasharray: 5 3; }
.axis { position: relative; height: 1.35rem; margin: .25rem 0 0 2.25rem; color: var(--quiet); font-size: .75rem;
  font-variant-numeric: tabular-nums; }
.axis span { position: absolute; transform: translateX(-50%); } .axis .end { transform: translateX(-100%); }
@media (max-width: 40rem) {
  main { padding: 1.25rem .75rem 3rem; } h1 { font-size: 1.5rem; } body { font-size: 15px; }
  article, .overview { padding: .8rem .7rem .5rem; }
  .legend { gap: .1rem .7rem; font-size: .8125rem; } header { align-items: flex-start; gap: .75rem; }
  header img { width: 4.5rem; height: 4.5rem; } .areas svg { height: 7rem; } .many span:nth-child(even) { display: none; }
}
@media print { article, .overview { break-inside: avoid; } .legend { position: static; } }
"""
