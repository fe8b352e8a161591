/**
 * What is to be done with what the server has kept of a cell's outputs: the rule, and nothing of Jupyter's.
 *
 * | the run                                      | the cell                       | so                    |
 * | -------------------------------------------- | ------------------------------ | --------------------- |
 * | this page has sent it, or a later one itself |                                | leave                 |
 * | in a shared document, another page has sent  |                                | leave                 |
 * | it and is there, or is the one that writes   |                                |                       |
 * | has ended                                    | is not there                   | offer                 |
 * |                                              | has another source             | offer                 |
 * |                                              | holds the same                 | leave                 |
 * |                                              | was saved later without it     | offer                 |
 * |                                              | else                           | fill                  |
 * | waits or runs                                | has that source                | run: fill and mark it |
 * |                                              | else                           | leave until it ends   |
 *
 * Nobody is offered what another page still shows, nor outputs that are none.
 */
import { IOutput } from '@jupyterlab/nbformat';
import { JSONExt, PartialJSONValue } from '@lumino/coreutils';

import { ICellRun } from '../api';

/** What a cell of the notebook holds now. */
export interface ICellNow {
  source: string;
  outputs: IOutput[];
  count: number | null;
  /** It is marked as running. */
  isRunning: boolean;
}

/** What matters of the page. */
export interface IPageNow {
  /** Of its connection to the kernel. */
  session: string;
  /** The session ids of all pages that are connected. */
  sessions: readonly string[];
  /** It has run that cell itself, so that what it shows is newer than what others have run. */
  hasRun: boolean;
  /** It has begun to fill the cell from this run: then an edit does not end that, as it ends no execution. */
  hasTaken: boolean;
  /** The connection was lost for a while, and all that this page has run in the cell has come since. */
  hadBreak: boolean;
  /** Others have the document open and see what is written here. */
  isShared: boolean;
  /** Of the pages that share it, this is the one that writes. */
  isWriter: boolean;
  /** When the file that the page has read was written, in milliseconds; null where that says nothing. */
  saved: number | null;
}

export type Verdict = 'leave' | 'fill' | 'run' | 'offer';

/** Milliseconds by which the clocks of kernel and server may differ. */
const CLOCKS = 30_000;

export function decide(run: ICellRun, cell: ICellNow | null, page: IPageNow): Verdict {
  const hasEnded = isOver(run);
  if (run.widget !== null || (page.hasRun && run.session !== page.session)) {
    return 'leave';
  }
  if (run.session === page.session) {
    // Its own websocket brings it. Only where others could write meanwhile, somebody may have.
    const mayDiffer = page.isShared && page.hadBreak && hasEnded;
    return mayDiffer && cell?.source === run.source && !holds(cell, run) ? 'fill' : 'leave';
  }
  const isWatched = page.sessions.includes(run.session);
  if (page.isShared && (isWatched || !page.isWriter)) {
    return 'leave';
  }
  const offered = hasEnded && !isWatched && run.outputs.length > 0 ? 'offer' : 'leave';
  if (cell === null) {
    return offered;
  }
  if (hasEnded && holds(cell, run)) {
    return 'leave';
  }
  if (cell.source !== run.source && !page.hasTaken) {
    return sameOutputs(cell.outputs, run.outputs) ? 'leave' : offered;
  }
  if (!hasEnded) {
    return 'run';
  }
  return wasSavedLater(run, page) && !page.hasTaken ? offered : 'fill';
}

export function isOver(run: ICellRun): boolean {
  return run.state === 'done' || run.state === 'aborted';
}

/** Somebody, or something, has saved the file after the end without these outputs: other ones are there, or none on purpose. */
function wasSavedLater(run: ICellRun, page: IPageNow): boolean {
  const ended = run.ended === null ? NaN : Date.parse(run.ended);
  return page.saved !== null && page.saved > ended + CLOCKS;
}

function holds(cell: ICellNow, run: ICellRun): boolean {
  return (
    !cell.isRunning &&
    (cell.count || null) === (run.execution_count || null) &&
    sameOutputs(cell.outputs, run.outputs)
  );
}

export function sameOutputs(some: readonly IOutput[], others: readonly IOutput[]): boolean {
  const [a, b] = [joined(some), joined(others)];
  return a.length === b.length && a.every((output, i) => sameOutput(output, b[i]));
}

export function sameOutput(a: IOutput, b: IOutput): boolean {
  return JSONExt.deepEqual(a as PartialJSONValue, b as PartialJSONValue);
}

/** As a notebook is read: streams of one name that follow on each other are one. (A note of what was cut may be such.) */
export function joined(outputs: readonly IOutput[]): IOutput[] {
  const made: IOutput[] = [];
  for (const output of outputs) {
    const last = made[made.length - 1];
    if (isStream(output)) {
      const text = textOf(output);
      if (last && isStream(last) && last.name === output.name) {
        made[made.length - 1] = { ...last, text: textOf(last) + text };
      } else {
        made.push({ ...output, text });
      }
    } else {
      made.push(output);
    }
  }
  return made;
}

export function isStream(output: IOutput): boolean {
  return output.output_type === 'stream';
}

export function textOf(output: IOutput): string {
  return [output.text ?? ''].flat().join('');
}

/**
 * All outputs of a run, from those that were known and a row that has what is new.
 *
 * @returns null where what the row begins with is not known: then ask for everything
 */
export function merged(known: readonly IOutput[], row: ICellRun): IOutput[] | null {
  const { kept, kept_text: keptText } = row;
  if (known.length < kept) {
    return null;
  }
  const outputs = [...row.outputs];
  if (keptText > 0) {
    const before = known[kept];
    if (!before || !isStream(before) || textOf(before).length < keptText) {
      return null;
    }
    outputs[0] = { ...outputs[0], text: textOf(before).slice(0, keptText) + textOf(outputs[0]) };
  }
  return [...known.slice(0, kept), ...outputs];
}
