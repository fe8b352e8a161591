import { nullTranslator } from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { fireEvent, waitFor } from '@testing-library/dom';

import { ICompute, IIdleStop } from '../api';
import { choiceOf, idleRequest } from '../autostop';
import { addCommands, CommandIDs } from '../commands';
import { FolderChoices } from '../folderchoices';
import { KnownComputes } from '../knowncomputes';
import { RequestError } from '../request';
import { closeDialogs } from './closeDialogs';
import { FakeCurrent, FakeModel } from './fakeModel';
import { FakeSettings } from './fakeSettings';
import * as fixtures from './fixtures';

const watched = (idle: Partial<IIdleStop> = {}): ICompute => ({
  ...fixtures.cpu,
  idle: { ...fixtures.idleStop, ...idle }
});

describe('the commands for when a machine is stopped', () => {
  let commands: CommandRegistry;
  let model: FakeModel;
  let settings: FakeSettings;

  beforeEach(() => {
    commands = new CommandRegistry();
    model = new FakeModel();
    settings = new FakeSettings();
    addCommands(commands, {
      model,
      current: new FakeCurrent(),
      known: new KnownComputes(null),
      folders: new FolderChoices(null),
      settings,
      trans: nullTranslator.load('jupyter_dsvm'),
      openPanel: () => undefined
    });
    model.set({ computes: [fixtures.free, watched(), fixtures.gpu] });
  });

  afterEach(() => {
    closeDialogs();
    document.body.textContent = '';
  });

  const dialog = () => document.querySelector<HTMLElement>('.jp-Dialog')!;
  const button = (label: string): HTMLElement =>
    [...dialog().querySelectorAll<HTMLElement>('.jp-Dialog-button')].find(
      ({ textContent }) => textContent === label
    )!;
  const field = (label: string): HTMLInputElement =>
    [...dialog().querySelectorAll('label')]
      .find(({ textContent }) => textContent?.includes(label))!
      .querySelector('input')!;
  const cpu = { compute: fixtures.cpu.id };

  it.each<[string, Partial<IIdleStop> | null, boolean]>([
    [CommandIDs.keepOn, {}, true],
    [CommandIDs.keepOn, { state: 'never' }, false],
    [CommandIDs.keepOn, { state: 'stops_soon', hard: true }, false],
    [CommandIDs.keepOn, null, false],
    [CommandIDs.autoStop, { state: 'never' }, true],
    [CommandIDs.autoStop, null, false]
  ])('%s with %p: %s', (command, idle, isEnabled) => {
    model.set({ computes: [idle ? watched(idle) : fixtures.cpu] });
    expect(commands.isEnabled(command, cpu)).toBe(isEnabled);
    expect(commands.isEnabled(command)).toBe(isEnabled);
  });

  it('keeps nothing on that is being stopped', () => {
    model.set({ operations: [{ ...fixtures.attach, compute: fixtures.cpu.id, kind: 'stop' }] });
    expect(commands.isEnabled(CommandIDs.keepOn, cpu)).toBe(false);
  });

  it('keeps a machine on for as long as the settings say, and asks once for two clicks', async () => {
    settings.set({ keepOnHours: 2 });
    expect(commands.label(CommandIDs.keepOn, cpu)).toBe('Keep cpu-vm on for 2 h');
    expect(commands.label(CommandIDs.keepOn, { ...cpu, menu: true })).toBe('Keep on 2 h');
    expect(commands.label(CommandIDs.keepOn)).toBe('Keep a Machine On for 2 h…');
    await Promise.all([
      commands.execute(CommandIDs.keepOn, cpu),
      commands.execute(CommandIDs.keepOn, cpu)
    ]);
    expect(model.done).toEqual([['idle', fixtures.cpu.id, { keep_seconds: 7200 }]]);
    await commands.execute(CommandIDs.keepOn, cpu);
    expect(model.done).toHaveLength(2);
  });

  it('says why a machine was not kept on', async () => {
    model.refusal = new RequestError(fixtures.problem, 409);
    void commands.execute(CommandIDs.keepOn, cpu);
    await waitFor(() => expect(dialog()?.textContent).toContain('cpu-vm is not kept on'));
    await waitFor(() => expect(dialog().textContent).toContain(fixtures.problem.advice));
  });

  it('lets a person choose when it is stopped, from what is set', async () => {
    model.set({ computes: [watched({ kept_until: fixtures.idleStop.stops_at, state: 'kept' })] });
    void commands.execute(CommandIDs.autoStop, cpu);
    await waitFor(() => expect(field('Minutes').value).toBe('30'));
    expect(dialog().textContent).toContain('When is cpu-vm stopped by itself?');
    expect(dialog().textContent).toContain('Azure stops it at 15:00 UTC');
    expect(field('Stop it after a while').checked).toBe(true);
    expect(field('Hours').disabled).toBe(true);
    fireEvent.input(field('Minutes'), { target: { value: '120' } });
    fireEvent.click(field('Stop it some hours after'));
    await waitFor(() => expect(field('Hours').disabled).toBe(false));
    fireEvent.input(field('Hours'), { target: { value: '8' } });
    fireEvent.click(field('No longer keep it on'));
    button('Save').click();
    await waitFor(() => expect(dialog()).toBeNull());
    expect(model.done).toEqual([
      ['idle', fixtures.cpu.id, { idle_minutes: 120, hard_limit_hours: 8, keep_seconds: 0 }]
    ]);
  });

  it('stays open with the reason where that is refused, and where a number is missing', async () => {
    void commands.execute(CommandIDs.autoStop, cpu);
    await waitFor(() => expect(field('Minutes')).toBeTruthy());
    fireEvent.input(field('Minutes'), { target: { value: '' } });
    button('Save').click();
    await waitFor(() => expect(dialog().textContent).toContain('greater than 0'));
    expect(model.done).toEqual([]);
    fireEvent.click(field('Never stop it'));
    model.refusal = new RequestError(fixtures.problem, 409);
    button('Save').click();
    await waitFor(() => expect(dialog().textContent).toContain(fixtures.problem.message));
    expect(model.done).toEqual([['idle', fixtures.cpu.id, { idle_minutes: null }]]);
  });

  it.each([
    ['15', 15],
    [' 0,5 ', 0.5],
    ['0', null],
    ['-3', null],
    ['soon', null],
    ['Infinity', null]
  ])('takes “%s” minutes for %p', (minutes, value) => {
    const before = choiceOf(fixtures.idleStop);
    expect(idleRequest({ ...before, minutes }, before)?.idle_minutes ?? null).toBe(value);
  });

  it('asks for what was changed only', () => {
    const before = choiceOf(fixtures.idleStop);
    expect(idleRequest(before, before)).toEqual({});
    expect(idleRequest({ ...before, hours: '3' }, before)).toEqual({}); // not ticked
    expect(idleRequest({ ...before, endKeep: true }, before)).toEqual({ keep_seconds: 0 });
    expect(idleRequest({ ...before, whenIdle: false }, before)).toEqual({ idle_minutes: null });
    const never = choiceOf({ ...fixtures.idleStop, state: 'never', hard_limit_hours: 8 });
    expect([never.whenIdle, never.minutes, never.hasLimit]).toEqual([false, '30', true]);
    expect(idleRequest({ ...never, whenIdle: true }, never)).toEqual({ idle_minutes: 30 });
    expect(idleRequest({ ...never, hasLimit: false }, never)).toEqual({ hard_limit_hours: null });
    expect(choiceOf(null).whenIdle).toBe(false);
  });
});
