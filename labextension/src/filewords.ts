/** How a notebook's files that travel are said. Pure. */
import { TranslationBundle } from '@jupyterlab/translation';

import { IWorkspace, IWorkspaceEstimate, WorkspacePhase } from './api';
import { Tone } from './words';

const UNITS = ['kB', 'MB', 'GB', 'TB'];

/** “84 MB”: as file managers have it, in thousands. */
export function bytesText(count: number, trans: TranslationBundle): string {
  if (count < 1000) {
    return trans.__('%1 B', count);
  }
  let value = count;
  let unit = -1;
  do {
    value /= 1000;
    unit++;
  } while (value >= 999.5 && unit < UNITS.length - 1);
  const shown = value < 9.95 ? Math.round(value * 10) / 10 : Math.round(value);
  return trans.__('%1 %2', shown, UNITS[unit]);
}

const TONES: Record<WorkspacePhase, Tone> = {
  off: 'off',
  waiting: 'busy',
  copying: 'busy',
  in_step: 'on',
  conflicts: 'warn',
  halted: 'warn',
  failed: 'gone'
};

export function filesTone({ state }: IWorkspace): Tone {
  return TONES[state];
}

/** “84 MB, in step”, “2 conflicts”; where only the server knows more, its words. */
export function filesText(workspace: IWorkspace, trans: TranslationBundle): string {
  const { state, bytes, conflicts, problem, text } = workspace;
  switch (state) {
    case 'in_step':
      return trans.__('%1, in step', bytesText(bytes, trans));
    case 'conflicts':
      return trans._n(
        '%2, in step but for %1 conflict',
        '%2, in step but for %1 conflicts',
        conflicts.length,
        bytesText(bytes, trans)
      );
    case 'halted':
      return trans.__('Nothing was copied');
    case 'failed':
      return text && text !== problem?.message ? text : trans.__('The files could not be copied');
    case 'waiting':
      return text || trans.__('Not looked at yet');
    case 'copying':
      return text || trans.__('Copying files');
    default:
      return text || trans.__('Files do not travel');
  }
}

/** “84 MB, 340 files”. */
export function estimateText(estimate: IWorkspaceEstimate, trans: TranslationBundle): string {
  const { files, bytes } = estimate;
  return trans._n('%2, %1 file', '%2, %1 files', files, bytesText(bytes, trans));
}

export function moreText(count: number, trans: TranslationBundle): string {
  return trans._n('And %1 more.', 'And %1 more.', count);
}
