import { IOutput } from '@jupyterlab/nbformat';

import { ICellRun } from '../api';
import { decide, ICellNow, IPageNow, joined, merged } from '../fill/plan';
import * as fixtures from './fixtures';

const stream = (text: string, name = 'stdout'): IOutput => ({ output_type: 'stream', name, text });

const RUN: ICellRun = {
  ...fixtures.outputs.rows[0],
  session: 'gone',
  source: 'print(1)',
  state: 'done',
  status: 'ok',
  execution_count: 3,
  ended: '2026-03-01T12:00:00.000000Z',
  outputs: [stream('1\n')]
};

const CELL: ICellNow = { source: 'print(1)', outputs: [], count: null, isRunning: false };

const PAGE: IPageNow = {
  session: 'own',
  sessions: ['own', 'another'],
  hasRun: false,
  hasTaken: false,
  hadBreak: false,
  isShared: false,
  isWriter: true,
  saved: Date.parse('2026-03-01T11:59:00Z')
};

const HELD: Partial<ICellNow> = { outputs: [stream('1\n')], count: 3 };
const LATE: Partial<IPageNow> = { saved: Date.parse('2026-03-01T12:10:00Z') };
const GOES_ON: Partial<ICellRun> = { state: 'running', execution_count: null, ended: null };
const EDITED: Partial<ICellNow> = { source: 'print(2)' };
const SHARED: Partial<IPageNow> = { isShared: true, saved: null };

type Case = [
  string,
  string,
  Partial<ICellRun>,
  Partial<ICellNow> | null,
  Partial<IPageNow> | undefined
];

const CASES: Case[] = [
  ['fill', 'has ended while nobody looked', {}, {}, {}],
  ['fill', 'has ended, and the cell holds a part', {}, { outputs: [stream('')] }, {}],
  ['fill', 'has ended without outputs, and the cell has old ones', { outputs: [] }, HELD, {}],
  ['fill', 'has been aborted', { state: 'aborted', execution_count: null, outputs: [] }, HELD, {}],
  ['fill', 'the number is another', { execution_count: 4 }, HELD, {}],
  ['fill', 'the cell is still marked as running', {}, { ...HELD, isRunning: true }, {}],
  ['fill', 'the file does not say when it was saved', {}, {}, { saved: null }],
  ['fill', 'it was taken, and edited since', {}, EDITED, { hasTaken: true }],
  ['fill', 'it was taken, and saved since', {}, {}, { hasTaken: true, ...LATE }],
  ['fill', 'its page shows it, too', { session: 'another' }, {}, {}],
  ['leave', 'the cell holds it', {}, HELD, {}],
  ['leave', 'the cell holds it, and was edited', {}, { ...HELD, ...EDITED }, {}],
  [
    'leave',
    'the cell holds it under an older number, and was edited',
    {},
    { ...HELD, ...EDITED, count: 1 },
    {}
  ],
  ['leave', 'this page has run it', { session: 'own' }, {}, {}],
  ['leave', 'this page has run it, also after a break', { session: 'own' }, {}, { hadBreak: true }],
  ['leave', 'this page has run the cell since', {}, {}, { hasRun: true }],
  ['leave', 'it is a widget’s', { widget: 'w', cell: '' }, null, {}],
  ['leave', 'there is nothing to offer', { outputs: [] }, null, {}],
  ['leave', 'there is nothing to offer to an edited cell', { outputs: [] }, EDITED, {}],
  ['leave', 'another page still shows it', { session: 'another' }, null, {}],
  ['leave', 'another page still shows it, of an edited cell', { session: 'another' }, EDITED, {}],
  ['leave', 'it runs, and the cell was edited', GOES_ON, EDITED, {}],
  ['leave', 'it runs, and there is no cell', GOES_ON, null, {}],
  ['offer', 'the cell is gone', {}, null, {}],
  ['offer', 'the cell was edited', {}, EDITED, {}],
  ['offer', 'the source is too long to be compared', { source: null }, {}, {}],
  ['offer', 'the file was saved later without it', {}, {}, LATE],
  [
    'offer',
    'the file was saved later with something else',
    {},
    { outputs: [stream('2\n')], count: 1 },
    LATE
  ],
  ['run', 'it runs', GOES_ON, {}, {}],
  ['run', 'it runs, and the file was saved meanwhile', GOES_ON, HELD, LATE],
  ['run', 'it waits', { ...GOES_ON, state: 'queued', outputs: [] }, {}, {}],
  ['run', 'it was taken, and edited since', GOES_ON, EDITED, { hasTaken: true }],
  ['fill', 'shared: its page has gone', {}, {}, SHARED],
  ['run', 'shared: its page has gone while it runs', GOES_ON, {}, SHARED],
  ['leave', 'shared: its page is there', { session: 'another' }, {}, SHARED],
  [
    'leave',
    'shared: its page is there while it runs',
    { ...GOES_ON, session: 'another' },
    {},
    SHARED
  ],
  ['leave', 'shared: another one writes', {}, {}, { ...SHARED, isWriter: false }],
  ['leave', 'shared: another one offers', {}, null, { ...SHARED, isWriter: false }],
  ['leave', 'shared: this page runs it', { session: 'own' }, {}, { ...SHARED, isWriter: false }],
  [
    'fill',
    'shared: somebody may have written meanwhile',
    { session: 'own' },
    {},
    { ...SHARED, hadBreak: true }
  ],
  ['leave', 'shared: nobody has', { session: 'own' }, HELD, { ...SHARED, hadBreak: true }],
  [
    'leave',
    'shared: it is not over',
    { ...GOES_ON, session: 'own' },
    {},
    { ...SHARED, hadBreak: true }
  ]
];

describe('what is done with a run', () => {
  it.each(CASES)('%s: %s', (verdict, _, run, cell, page) => {
    const now = cell && { ...CELL, ...cell };
    expect(decide({ ...RUN, ...run }, now, { ...PAGE, ...page })).toBe(verdict);
  });

  it('comes to an end: what was filled is left alone', () => {
    for (const [, , run, cell, page] of CASES) {
      const whole = { ...RUN, ...run };
      const here = { ...PAGE, ...page };
      if (decide(whole, cell && { ...CELL, ...cell }, here) === 'fill') {
        const filled = {
          ...CELL,
          outputs: whole.outputs,
          count: whole.execution_count
        };
        expect(decide(whole, filled, { ...here, hasTaken: true })).toBe('leave');
        expect(decide(whole, { ...filled, ...EDITED }, here)).toBe('leave');
      }
    }
  });
});

describe('outputs', () => {
  it('are joined as a notebook is read', () => {
    const shown: IOutput = { output_type: 'display_data', data: {}, metadata: {} };
    const pieces = [stream('a'), stream('b'), stream('c', 'stderr'), shown, stream('d', 'stderr')];
    expect(joined(pieces)).toEqual([
      stream('ab'),
      stream('c', 'stderr'),
      shown,
      stream('d', 'stderr')
    ]);
    expect(joined([{ output_type: 'stream', name: 'stdout', text: ['a\n', 'b'] }])).toEqual([
      stream('a\nb')
    ]);
  });

  it('are put together from what is known and what is new', () => {
    const known = [stream('a', 'stderr'), stream('one\ntwo')];
    const row = (kept: number, keptText: number, ...outputs: IOutput[]): ICellRun => ({
      ...RUN,
      kept,
      kept_text: keptText,
      outputs
    });
    expect(merged(known, row(1, 4, stream('three')))).toEqual([known[0], stream('one\nthree')]);
    expect(merged(known, row(2, 0, stream('b', 'stderr')))).toEqual([
      ...known,
      stream('b', 'stderr')
    ]);
    expect(merged(known, row(2, 0))).toEqual(known);
    expect(merged(known, row(0, 0))).toEqual([]);
  });

  it('are asked for anew where what is new goes on from something else', () => {
    const row = { ...RUN, kept: 1, kept_text: 0 };
    expect(merged([], row)).toBeNull();
    expect(merged([stream('ab')], { ...row, kept: 0, kept_text: 3 })).toBeNull();
    expect(merged([], { ...row, kept: 0, kept_text: 3 })).toBeNull();
    const shown: IOutput = { output_type: 'display_data', data: {}, metadata: {} };
    expect(merged([shown], { ...row, kept: 0, kept_text: 3 })).toBeNull();
  });
});
