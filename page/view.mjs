// What the page shows of faces: frames on the picture, a choice among the faces, and the prediction for the chosen one.

const SVG = 'http://www.w3.org/2000/svg';

// The most probable label, null for a model without expressions.
export function best(face, labels) {
  return labels.length ? labels[face.probabilities.indexOf(Math.max(...face.probabilities))] : null;
}

export function summary(face, labels) {
  const name = best(face, labels);
  const parts = name === null ? [] : [`${name} ${Math.max(...face.probabilities).toFixed(2)}`];
  if (face.valence !== null) parts.push(`valence ${signed(face.valence)}`, `arousal ${signed(face.arousal)}`);
  return parts.join(', ');
}

const signed = (value) => `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(2)}`;

// Black or white, whichever has more contrast on #rrggbb (WCAG 2).
function ink(colour) {
  const linear = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  const light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return (light + 0.05) / 0.05 > 1.05 / (light + 0.05) ? '#000000' : '#ffffff';
}

// Frames and labels of the faces on a canvas of `width` px, whose picture has `from` px across. chosen: number of a face, drawn last.
export function drawFrames(context, {faces, whole}, {labels, colours, unnamed}, width, from, chosen) {
  const scale = width / from;
  const line = Math.max(2, Math.round(width / 320));
  const px = Math.max(13, Math.min(22, Math.round(width / 40)));
  context.font = `600 ${px}px system-ui, sans-serif`;
  context.textBaseline = 'middle';
  const order = whole ? [] : [...faces].sort((one, other) => (one.number === chosen) - (other.number === chosen));
  for (const face of order) {
    const [left, top, right, bottom] = face.box.map((edge) => edge * scale);
    const name = best(face, labels);
    const colour = colours[name] ?? unnamed;
    const wide = face.number === chosen ? 2 * line : line;
    context.strokeStyle = ink(colour);
    context.lineWidth = wide + 2;
    context.strokeRect(left, top, right - left, bottom - top);
    context.strokeStyle = colour;
    context.lineWidth = wide;
    context.strokeRect(left, top, right - left, bottom - top);
    drawLabel(context, name === null ? `${face.number}` : `${face.number} ${name}`, colour, px, [left - wide / 2, top, bottom], width);
  }
}

// Above the frame, or within it at its upper edge, and always within the picture.
function drawLabel(context, text, colour, px, [left, top], width) {
  const [across, down] = [context.measureText(text).width + 0.8 * px, 1.5 * px];
  const x = Math.max(0, Math.min(left, width - across));
  const y = top - down >= 0 ? top - down : Math.max(0, top);
  context.fillStyle = colour;
  context.fillRect(x, y, across, down);
  context.fillStyle = ink(colour);
  context.fillText(text, x + 0.4 * px, y + down / 2);
}

// The radio buttons; those of faces that stay are kept, so that the keyboard's focus stays.
export class Choice {
  constructor(fieldset, changed) {
    this.fieldset = fieldset;
    this.list = fieldset.querySelector('div');
    this.buttons = new Map();
    this.changed = changed;
  }

  update(faces, labels, chosen, hidden) {
    const numbers = new Set(faces.map(({number}) => number));
    for (const [number, {label}] of this.buttons) {
      if (!numbers.has(number)) {
        label.remove();
        this.buttons.delete(number);
      }
    }
    for (const face of faces) {
      const {radio, text} = this.buttons.get(face.number) ?? this.add(face.number);
      radio.checked = face.number === chosen;
      const shown = [face.number, best(face, labels)].filter((part) => part !== null).join(' ');
      if (text.data !== shown) text.data = shown;
    }
    this.fieldset.hidden = hidden || faces.length < 2;
  }

  add(number) {
    const label = document.createElement('label');
    const radio = Object.assign(document.createElement('input'), {type: 'radio', name: 'face', value: number});
    const text = document.createTextNode('');
    label.append(radio, text);
    radio.addEventListener('change', () => this.changed(number));
    const after = [...this.buttons].filter(([other]) => other > number).sort(([one], [other]) => one - other)[0];
    this.list.insertBefore(label, after ? after[1].label : null);
    const entry = {label, radio, text};
    this.buttons.set(number, entry);
    return entry;
  }
}

// The prediction for one face. Its elements are made once, so that nothing moves while the numbers change.
export class Panel {
  constructor(place, {labels, affect, image_px: side, grey}) {
    Object.assign(this, {place, labels, grey});
    this.title = place.appendChild(document.createElement('h3'));
    this.rows = labels.length ? this.addBars() : [];
    if (!labels.length) this.addText('This model predicts no expressions.');
    if (affect) this.addCircle();
    else this.addText('This model predicts no valence and arousal.');
    const seen = place.appendChild(document.createElement('div'));
    seen.className = 'seen';
    this.seen = seen.appendChild(document.createElement('canvas'));
    this.seen.setAttribute('aria-hidden', 'true');
    const caption = seen.appendChild(document.createElement('p'));
    caption.textContent = `The face as it was cut. The network gets it at ${side} × ${side} px${grey ? ', in grey' : ''}.`;
    place.hidden = true;
  }

  addText(text) {
    this.place.appendChild(document.createElement('p')).textContent = text;
  }

  addBars() {
    const table = this.place.appendChild(document.createElement('table'));
    table.className = 'bars';
    table.setAttribute('aria-label', 'Probability of each expression');
    return this.labels.map((name) => {
      const row = table.insertRow();
      const head = row.appendChild(document.createElement('th'));
      head.scope = 'row';
      head.textContent = name;
      const cell = row.insertCell();
      cell.setAttribute('aria-hidden', 'true');
      const bar = cell.appendChild(document.createElement('span'));
      bar.className = 'bar';
      return {row, fill: bar.appendChild(document.createElement('i')), number: row.insertCell()};
    });
  }

  // Valence across, arousal up (Russell 1980).
  addCircle() {
    const figure = this.place.appendChild(document.createElement('figure'));
    this.circle = figure.appendChild(document.createElementNS(SVG, 'svg'));
    const parts = [
      ['circle', {r: 100, fill: 'var(--plain)', stroke: 'var(--line)'}],
      ['circle', {r: 50, fill: 'none', stroke: 'var(--line)'}],
      ['path', {d: 'M-100 0h200M0-100v200', stroke: 'var(--line)'}],
      ['text', {y: -106, 'text-anchor': 'middle'}, 'aroused'],
      ['text', {y: 115, 'text-anchor': 'middle'}, 'calm'],
      ['text', {transform: 'translate(-108 0) rotate(-90)', 'text-anchor': 'middle'}, 'unpleasant'],
      ['text', {transform: 'translate(108 0) rotate(90)', 'text-anchor': 'middle'}, 'pleasant'],
      ['circle', {r: 7, fill: 'var(--dot)', stroke: 'var(--paper)', 'stroke-width': 2}],
    ];
    for (const [kind, attributes, text = ''] of parts) {
      this.dot = this.circle.appendChild(document.createElementNS(SVG, kind));
      for (const [name, value] of Object.entries(attributes)) this.dot.setAttribute(name, value);
      this.dot.textContent = text;
    }
    this.circle.setAttribute('viewBox', '-130 -122 260 244');
    this.circle.setAttribute('role', 'img');
    this.caption = figure.appendChild(document.createElement('figcaption'));
  }

  // face: null for none; whole: whether it is the whole photograph.
  show(face, whole) {
    this.place.hidden = !face;
    if (!face) return;
    this.title.textContent = `${whole ? 'The whole photograph' : `Face ${face.number}`}: ${summary(face, this.labels)}`;
    const name = best(face, this.labels);
    this.rows.forEach(({row, fill, number}, at) => {
      row.classList.toggle('top', this.labels[at] === name);
      fill.style.width = `${(100 * face.probabilities[at]).toFixed(1)}%`;
      number.textContent = face.probabilities[at].toFixed(2);
    });
    if (this.circle) this.showAffect(face);
    this.showCrop(face.seen);
  }

  showAffect({valence, arousal}) {
    const text = `valence ${signed(valence)}, arousal ${signed(arousal)}`;
    this.dot.setAttribute('cx', (100 * valence).toFixed(1));
    this.dot.setAttribute('cy', (-100 * arousal).toFixed(1));
    this.circle.setAttribute('aria-label', text);
    this.caption.textContent = text;
  }

  showCrop({width, height, data}) {
    const picture = new ImageData(width, height);
    for (let from = 0, to = 0; from < data.length; from += 3, to += 4) {
      const [red, green, blue] = [data[from], data[from + 1], data[from + 2]];
      const luma = 0.299 * red + 0.587 * green + 0.114 * blue;
      picture.data.set(this.grey ? [luma, luma, luma, 255] : [red, green, blue, 255], to);
    }
    Object.assign(this.seen, {width, height});
    this.seen.getContext('2d').putImageData(picture, 0, 0);
  }
}

// Label and text of each fact about the model.
export function showFacts(list, facts) {
  for (const [name, text] of Object.entries(facts)) {
    list.appendChild(document.createElement('dt')).textContent = name[0].toUpperCase() + name.slice(1);
    list.appendChild(document.createElement('dd')).textContent = text;
  }
}
