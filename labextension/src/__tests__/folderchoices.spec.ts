import { StateDB } from '@jupyterlab/statedb';

import { FolderChoices } from '../folderchoices';

const KEY = 'jupyter-dsvm:copied-folders';

describe('the choices for folders', () => {
  it('are kept from one page to the next', async () => {
    const state = new StateDB();
    const choices = new FolderChoices(state);
    expect(await choices.get('work')).toBeUndefined();
    await choices.set('work', false);
    await choices.set('', true);
    const later = new FolderChoices(state);
    expect([await later.get('work'), await later.get(''), await later.get('x')]).toEqual([
      false,
      true,
      undefined
    ]);
  });

  it('are taken from nothing else than choices', async () => {
    const state = new StateDB();
    await state.save(KEY, [['a', true], ['b', 'yes'], 5, null, ['c']]);
    const choices = new FolderChoices(state);
    expect(await choices.get('a')).toBe(true);
    expect(await choices.get('b')).toBeUndefined();
    await state.save(KEY, 'nonsense');
    expect(await new FolderChoices(state).get('a')).toBeUndefined();
  });

  it('are forgotten from the oldest on', async () => {
    const choices = new FolderChoices(null);
    await choices.set('first', true);
    for (let i = 0; i < 199; i++) {
      await choices.set(String(i), true);
    }
    await choices.set('first', false); // which is the newest now
    await choices.set('one more', true);
    expect(await choices.get('first')).toBe(false);
    expect(await choices.get('0')).toBeUndefined();
    expect(await choices.get('1')).toBe(true);
  });
});
