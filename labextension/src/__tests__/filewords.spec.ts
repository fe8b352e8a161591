import { nullTranslator } from '@jupyterlab/translation';

import { WorkspacePhase } from '../api';
import { bytesText, estimateText, filesText, filesTone } from '../filewords';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');
const [workspace] = fixtures.workspaceList.workspaces;

describe('the words for files', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1 kB'],
    [9_949, '9.9 kB'],
    [999_600, '1 MB'],
    [84_000_000, '84 MB'],
    [3_240_000_000, '3.2 GB'],
    [5e15, '5000 TB']
  ])('%i bytes are %s', (count, expected) => {
    expect(bytesText(count, trans)).toBe(expected);
  });

  it('say how much goes along', () => {
    expect(estimateText(fixtures.workspaceEstimate, trans)).toBe('84 MB, 340 files');
    expect(estimateText({ ...fixtures.workspaceEstimate, files: 1 }, trans)).toBe('84 MB, 1 file');
  });

  it('say every state, with a tone', () => {
    const said = (state: WorkspacePhase, text: string) =>
      filesText({ ...workspace, state, text }, trans);
    const states: WorkspacePhase[] = [
      'off',
      'waiting',
      'copying',
      'in_step',
      'conflicts',
      'halted',
      'failed'
    ];
    for (const state of states) {
      expect(said(state, '')).not.toBe('');
      expect(filesTone({ ...workspace, state })).toBeTruthy();
    }
    expect(said('copying', 'copying 12 of 340 files')).toBe('copying 12 of 340 files');
    expect(said('in_step', 'whatever')).toBe('84 MB, in step');
  });
});
