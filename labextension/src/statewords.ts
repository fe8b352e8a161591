/** The longer texts of a card's states, and the label of its button. Pure. */
import { TranslationBundle } from '@jupyterlab/translation';

import { ICompute, IOperation } from './api';
import { countdownText, idleOf, keepLabel, stayText, stopText } from './idlewords';
import { PrimaryAction } from './states';
import { operationText, priceText } from './words';

export const stillBilled = (trans: TranslationBundle): string => trans.__('still billed');

/** What a machine does that is on, and why it stays on; with `now`, also when it is stopped. */
export function onText(compute: ICompute, trans: TranslationBundle, now?: number): string {
  const stops = now === undefined ? '' : countdownText(idleOf(compute), now, trans);
  return [runningText(compute, trans), stayText(compute, trans), stops].filter(Boolean).join(' ');
}

/** The same as it passes; null where nothing is counted down. */
export function passingText(
  compute: ICompute,
  trans: TranslationBundle,
  now: number
): string | null {
  return idleOf(compute)?.stops_at ? onText(compute, trans, now) : null;
}

/** When it is stopped, for who asks. */
export function onDetail(compute: ICompute, trans: TranslationBundle): string {
  return stopText(idleOf(compute), trans);
}

/** “Running analysis.ipynb and 2 more.”; the rest is for whoever asks. */
function runningText(compute: ICompute, trans: TranslationBundle): string {
  const names = compute.attached.map(path => path.split('/').pop() ?? path);
  switch (names.length) {
    case 0:
      return trans.__('On. Nothing attached.');
    case 1:
      return trans.__('Running %1.', names[0]);
    case 2:
      return trans.__('Running %1 and %2.', names[0], names[1]);
    default:
      return trans.__('Running %1 and %2 more.', names[0], names.length - 1);
  }
}

export function stoppedText({ price }: ICompute, trans: TranslationBundle): string {
  return price
    ? trans.__('Off, but %1 %2.', stillBilled(trans), priceText(price, trans))
    : trans.__('Off, but %1.', stillBilled(trans));
}

/** What is done, and what becomes of the notebooks there: the server brings them back when the machine is released. */
export function resizeText(
  operation: IOperation,
  { attached }: ICompute,
  trans: TranslationBundle
): string {
  const step = operationText(operation, trans);
  return attached.length > 0
    ? trans._n(
        '%2 One notebook goes back to the free tier.',
        '%2 %1 notebooks go back to the free tier.',
        attached.length,
        step
      )
    : step;
}

/** The label of a card's button. */
export function primaryLabel(
  action: PrimaryAction,
  compute: ICompute,
  trans: TranslationBundle,
  keepHours = 1
): string {
  switch (action) {
    case 'attach':
      return compute.power_state === 'deallocated'
        ? trans.__('Start and attach')
        : trans.__('Attach this notebook');
    case 'detach':
      return trans.__('Return to free tier');
    case 'start':
      return trans.__('Start');
    case 'release':
      return trans.__('Release');
    case 'reconnect':
      return trans.__('Reconnect now');
    case 'resize':
      return trans.__('Try another size');
    case 'cpuSizes':
      return trans.__('Show CPU sizes');
    case 'quota':
      return trans.__('Request quota');
    case 'keep':
      return keepLabel(keepHours, trans);
    case 'autoStop':
      return trans.__('Auto-stop…');
  }
}
