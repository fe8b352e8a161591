import { CodeCellModel } from '@jupyterlab/cells';
import { IOutput } from '@jupyterlab/nbformat';
import { OutputArea } from '@jupyterlab/outputarea';
import { RenderMimeRegistry, standardRendererFactories } from '@jupyterlab/rendermime';
import { ISharedCodeCell, YNotebook } from '@jupyter/ydoc';

import { sameOutput } from '../fill/plan';
import { writeOutputs } from '../fill/write';
import { CASES, IEvent, Page, passed } from './frontEnd';

const stream = (text: string, name = 'stdout'): IOutput => ({ output_type: 'stream', name, text });
const shown = (text: string): IOutput => ({
  output_type: 'display_data',
  data: { 'text/plain': text },
  metadata: {}
});

/** A cell with all that stands behind it: its part of the shared document, and what shows its outputs. */
class Cell {
  constructor(outputs: IOutput[], disableDocumentWideUndoRedo = true) {
    const source = { cell_type: 'code' as const, source: '', outputs };
    const sharedModel = YNotebook.create({ disableDocumentWideUndoRedo }).addCell(
      source
    ) as unknown as ISharedCodeCell;
    this.model = new CodeCellModel({ sharedModel });
    this.model.trusted = true;
    this._area = new OutputArea({
      model: this.model.outputs,
      rendermime: new RenderMimeRegistry({ initialFactories: standardRendererFactories })
    });
  }

  readonly model: CodeCellModel;

  write(outputs: readonly IOutput[], kept = 0): void {
    writeOutputs(this.model.outputs, outputs, kept);
  }

  get held(): IOutput[] {
    return this.model.outputs.toJSON();
  }

  /** What is saved, and what others see who share the document. */
  get saved(): IOutput[] {
    return this.model.sharedModel.getOutputs();
  }

  /** One text for each output that is shown. */
  get shown(): string[] {
    return this._area.widgets.map(({ node }) => node.textContent ?? '');
  }

  dispose(): void {
    this._area.dispose();
    this.model.dispose();
  }

  private readonly _area: OutputArea;
}

/** What each cell holds after each of the events: what the server has, too. */
async function history(events: readonly IEvent[]): Promise<Map<string, IOutput[][]>> {
  const page = new Page();
  await passed();
  const states = new Map<string, IOutput[][]>();
  for (const event of events) {
    await page.happens(event);
    for (const [cell, area] of page.areas) {
      states.set(cell, [
        ...(states.get(cell) ?? []),
        JSON.parse(JSON.stringify(area.model.toJSON()))
      ]);
    }
  }
  page.dispose();
  return states;
}

/** How many of the first ones are the same, as a row says it: it counts a text that has grown as changed. */
function kept(before: readonly IOutput[], after: readonly IOutput[]): number {
  const differs = after.findIndex((output, i) => !before[i] || !sameOutput(output, before[i]));
  return differs < 0 ? after.length : differs;
}

describe('outputs that are written into a cell', () => {
  beforeEach(() => {
    jest.spyOn(console, 'debug').mockImplementation(); // each kernel connection says that it opens
    jest.spyOn(console, 'warn').mockImplementation(); // @jupyter/ydoc reads a cell's text before it belongs to a document
  });

  it('are what a page holds that watched all along, whenever another was opened, and however often it was told', async () => {
    let written = 0;
    for (const { events } of CASES) {
      for (const states of (await history(events)).values()) {
        const last = states[states.length - 1];
        // Opened at any moment with what was saved at any earlier one ...
        for (const saved of new Set([0, states.length >> 1, states.length - 1])) {
          // ... and told of every state since, or of every third, or of the last one.
          for (const step of [1, 3, states.length]) {
            const cell = new Cell(states[saved]);
            let before: readonly IOutput[] | null = null;
            for (let at = saved; at < states.length + step - 1; at += step) {
              const now = states[Math.min(at, states.length - 1)];
              cell.write(now, before ? kept(before, now) : 0);
              expect(cell.held).toEqual(now);
              before = now;
              written++;
            }
            expect(cell.saved).toEqual(last);
            cell.dispose();
          }
        }
      }
    }
    expect(written).toBeGreaterThan(10_000);
  });

  it.each([true, false])('are shown as they are held (history of each cell: %s)', each => {
    const cell = new Cell([stream('old\n')], each);
    const states = [
      [stream('')],
      [stream(' 10%|# |')],
      [stream('100%|##|\n')],
      [stream('100%|##|\n'), shown('one')],
      [stream('100%|##|\n'), shown('two'), stream('x', 'stderr')],
      [shown('three')],
      [stream('again')],
      [stream('again'), stream('!', 'stderr')],
      []
    ];
    for (const state of states) {
      cell.write(state);
      expect(cell.held).toEqual(state);
      expect(cell.saved).toEqual(state);
      expect(cell.shown.map(text => text.trim())).toEqual(
        state.map(output =>
          String(output.text ?? (output.data as object)['text/plain' as never]).trim()
        )
      );
    }
    cell.dispose();
  });

  it('that are there already are not touched', () => {
    const state = [stream('a\n'), shown('b'), stream('c', 'stderr')];
    const cell = new Cell(state);
    const changed = jest.fn();
    cell.model.outputs.changed.connect(changed);
    cell.model.sharedModel.changed.connect(changed);
    cell.write(state);
    expect(changed).not.toHaveBeenCalled();
    cell.dispose();
  });

  it('keep characters whole that are two code units', () => {
    const cell = new Cell([stream('a😀')]);
    cell.write([stream('a😁')]);
    expect(cell.saved).toEqual([stream('a😁')]);
    cell.dispose();
  });

  it('of which so many are said to be there are checked no further, unless they are not', () => {
    const cell = new Cell([shown('0'), shown('1')]);
    cell.write([shown('0'), shown('1'), shown('2')], 2);
    expect(cell.held).toEqual([shown('0'), shown('1'), shown('2')]);
    cell.model.outputs.clear(); // a person has
    cell.write([shown('0'), shown('1'), shown('2'), shown('3')], 3);
    expect(cell.held).toEqual([shown('0'), shown('1'), shown('2'), shown('3')]);
    cell.dispose();
  });
});
