/** How variables that travel are said. Pure. */
import { TranslationBundle } from '@jupyterlab/translation';

import { ISavedVariables, IVariable, IVariables } from './api';
import { bytesText } from './filewords';
import { aboutText, dotted } from './words';

/** The step of a move in which they are carried. */
export const VARIABLES_STEP = 'variables';

/** From so many bytes on they go along only where somebody says so: it takes a while, and may be more than is needed there. */
export const MUCH = 2 ** 30;

/** Seconds: what is over sooner is not worth a word. */
const SHORT = 5;

/** Names in a sentence; the list has all. */
const MOST_NAMES = 5;

/** The share of a machine's memory from which variables may be too much: a kernel and the system need some of it, too. */
const TIGHT = 0.75;

/** Those of a plan that are to go along. */
export interface IChosen {
  /** Names, of those that are listed. */
  names: string[];
  count: number;
  bytes: number;
}

/** @param left names that somebody has taken out; without any, those that are not listed go along, too */
export function chosenOf(
  { variables, more, bytes }: IVariables,
  left: ReadonlySet<string>
): IChosen {
  const chosen = variables.filter(({ moves, name }) => moves && !left.has(name));
  return {
    names: chosen.map(({ name }) => name),
    count: chosen.length + (left.size > 0 ? 0 : more),
    bytes: left.size > 0 ? chosen.reduce((sum, one) => sum + (one.bytes ?? 0), 0) : bytes
  };
}

/** Whether variables go along unless somebody says otherwise. */
export function goesByDefault(plan: IVariables, memoryGib: number | null): boolean {
  return (
    plan.state === 'ready' &&
    plan.variables.some(({ moves }) => moves) &&
    plan.bytes < MUCH &&
    !isTight(plan.bytes, memoryGib)
  );
}

/** Whether so much may not fit into a machine's memory; false where that is not known. */
export function isTight(bytes: number, memoryGib: number | null): boolean {
  return memoryGib !== null && bytes > TIGHT * memoryGib * 2 ** 30;
}

/** “Carry variables (12 of 15 · 1.2 GB · 40 s; 3 cannot be moved: conn, fh, lock)”. */
export function carryLabel(
  plan: IVariables,
  { count, bytes }: IChosen,
  trans: TranslationBundle
): string {
  const stuck = plan.variables.filter(({ moves }) => !moves);
  const total = plan.variables.length + plan.more;
  // The server's time is for all of them.
  const seconds = plan.bytes > 0 ? ((plan.seconds ?? 0) * bytes) / plan.bytes : 0;
  const facts = dotted(
    count === total ? String(total) : trans.__('%1 of %2', count, total),
    bytesText(bytes, trans),
    seconds >= SHORT ? aboutText(seconds, trans) : ''
  );
  return stuck.length === 0
    ? trans.__('Carry variables (%1)', facts)
    : trans._n(
        'Carry variables (%2; %1 cannot be moved: %3)',
        'Carry variables (%2; %1 cannot be moved: %3)',
        stuck.length,
        facts,
        namesText(stuck.map(({ name }) => name))
      );
}

/** “conn, fh, lock”; of many the first. */
export function namesText(names: readonly string[]): string {
  const shown = names.slice(0, MOST_NAMES).join(', ');
  return names.length > MOST_NAMES ? `${shown}, …` : shown;
}

/** “pandas.DataFrame · 84 MB”. */
export function variableText({ type, bytes }: IVariable, trans: TranslationBundle): string {
  return dotted(type, bytes === null ? '' : bytesText(bytes, trans));
}

/** “12 variables were saved when gpu-t4 stopped (1.2 GB).” */
export function savedText(saved: ISavedVariables, name: string, trans: TranslationBundle): string {
  return trans._n(
    '%1 variable was saved when %2 stopped (%3).',
    '%1 variables were saved when %2 stopped (%3).',
    saved.count,
    name,
    bytesText(saved.bytes, trans)
  );
}

/** “2 cells wait”. */
export function waitText(count: number, trans: TranslationBundle): string {
  return count > 0 ? trans._n('%1 cell waits', '%1 cells wait', count) : '';
}
