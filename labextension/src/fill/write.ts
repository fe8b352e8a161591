import { IOutput } from '@jupyterlab/nbformat';
import { IOutputAreaModel } from '@jupyterlab/outputarea';

import { isStream, joined, sameOutput, textOf } from './plan';

/**
 * Make a cell hold these outputs, and change no more than that takes: a text that grows is added to, what is there already stays
 * as it is shown.
 *
 * @param kept so many of the first ones are known to be there
 */
export function writeOutputs(model: IOutputAreaModel, outputs: readonly IOutput[], kept = 0): void {
  const target = joined(outputs);
  let first = kept === 0 ? 0 : Math.max(0, joined(outputs.slice(0, kept)).length - 1);
  if (!canGoOn(model, target, first)) {
    // (Of a shared document, `remove` would take away others than it should.)
    model.clear();
    first = 0;
  }
  target.slice(first).forEach((output, at) => {
    const i = first + at;
    if (i >= model.length) {
      model.add(output);
    } else if (isStream(output)) {
      writeText(model, i, textOf(output));
    } else if (!sameOutput(model.get(i).toJSON(), output)) {
      model.set(i, output);
    }
  });
}

/** Whether each output that is there may stay in its place: as it is, with another text, or as a display that was updated. */
function canGoOn(model: IOutputAreaModel, target: readonly IOutput[], first: number): boolean {
  if (model.length > target.length || model.length < first) {
    return false;
  }
  for (let i = first; i < model.length; i++) {
    const [held, wanted] = [model.get(i).toJSON(), target[i]];
    if (isStream(held) !== isStream(wanted) || (isStream(held) && held.name !== wanted.name)) {
      return false;
    }
  }
  return true;
}

function writeText(model: IOutputAreaModel, index: number, wanted: string): void {
  const text = model.get(index).streamText;
  const held = text?.text ?? '';
  if (!text || held === wanted) {
    return;
  }
  let same = wanted.startsWith(held) ? held.length : common(held, wanted);
  if (same > 0 && /[\ud800-\udbff]/.test(wanted[same - 1])) {
    same--; // half a character cannot be written into a shared document
  }
  if (same < held.length) {
    text.remove(same, held.length);
  }
  if (same < wanted.length) {
    text.insert(same, wanted.slice(same));
  }
  if (text.text !== wanted) {
    // With one history of changes for the whole document, the document's part of the cell says so again.
    model.set(index, { ...model.get(index).toJSON(), text: wanted });
  }
}

/** How much of two texts is the same. */
function common(a: string, b: string): number {
  let i = 0;
  while (i < a.length && a[i] === b[i]) {
    i++;
  }
  return i;
}
