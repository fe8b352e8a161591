import { Dialog, ReactWidget } from '@jupyterlab/apputils';
import { ICellModel } from '@jupyterlab/cells';
import { NotebookPanel } from '@jupyterlab/notebook';
import { TranslationBundle } from '@jupyterlab/translation';
import { IDisposable } from '@lumino/disposable';
import * as React from 'react';

import { ICellRun } from '../api';
import { ToneIcon } from '../components/ToneIcon';
import { h } from '../jsx';
import { Stray } from './stray';

/** Shows what the function gives, and again at each `update`. */
class Rendered extends ReactWidget {
  constructor(private readonly _render: () => React.ReactElement) {
    super();
  }

  protected render(): React.ReactElement {
    return this._render();
  }
}

/** Enter is for the buttons in its body, too. */
class ListDialog extends Dialog<void> {
  constructor(
    title: string,
    private readonly _shown: Rendered,
    close: string
  ) {
    super({ title, body: _shown, buttons: [Dialog.okButton({ label: close })] });
    this.node.setAttribute('aria-label', title);
  }

  handleEvent(event: Event): void {
    const isEnter = event.type === 'keydown' && (event as KeyboardEvent).key === 'Enter';
    if (!(isEnter && this._shown.node.contains(event.target as Node))) {
      super.handleEvent(event);
    }
  }
}

/**
 * Outputs that belong into no cell, since the one that was run is gone or has another source now: a line above the notebook, and
 * a dialog in which each can be looked at, put into a cell of its own, or thrown away.
 */
export class Offers implements IDisposable {
  /** `settle`: these outputs need no cell any more. */
  constructor(
    private readonly _panel: NotebookPanel,
    private readonly _trans: TranslationBundle,
    private readonly _settle: (run: ICellRun) => void
  ) {}

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    this._isDisposed = true;
    this._dialog?.dispose();
    this._line?.dispose();
  }

  set(runs: readonly ICellRun[]): void {
    if (this._isDisposed || (runs.length === 0 && this._runs.length === 0)) {
      return;
    }
    this._runs = runs;
    if (!this._line) {
      this._line = new Rendered(() => this._renderLine());
      this._line.addClass('jp-Dsvm-strays');
      this._panel.contentHeader.addWidget(this._line);
    }
    this._line.setHidden(runs.length === 0);
    this._line.update();
    this._list?.update();
    if (runs.length === 0) {
      this._dialog?.reject();
    }
  }

  private async _open(): Promise<void> {
    const trans = this._trans;
    this._list = new Rendered(() => this._renderList());
    const title = trans.__('Outputs that found no cell');
    this._dialog = new ListDialog(title, this._list, trans.__('Close'));
    try {
      await this._dialog.launch();
    } finally {
      this._dialog = this._list = null;
    }
  }

  private _renderLine(): React.ReactElement {
    const trans = this._trans;
    return (
      <>
        <ToneIcon tone="warn" />
        <span role="status">{trans.__('Outputs that found no cell (%1)', this._runs.length)}</span>
        <button className="jp-mod-styled" onClick={() => void this._open()}>
          {trans.__('Show…')}
        </button>
      </>
    );
  }

  private _renderList(): React.ReactElement {
    return (
      <ul className="jp-Dsvm-strayList">
        {this._runs.map(run => (
          <Stray
            key={run.msg_id}
            run={run}
            source={this._cellOf(run)?.sharedModel.getSource() ?? null}
            rendermime={this._panel.content.rendermime}
            onInsert={() => this._insert(run)}
            onDismiss={() => this._settle(run)}
            trans={this._trans}
          />
        ))}
      </ul>
    );
  }

  private _insert(run: ICellRun): void {
    const { content, context } = this._panel;
    const { model } = context;
    const own = [...model.cells].indexOf(this._cellOf(run)!);
    const index = 1 + (own >= 0 ? own : content.activeCellIndex);
    model.sharedModel.insertCell(index, {
      cell_type: 'code',
      source: run.source ?? '',
      metadata: { trusted: true },
      outputs: run.outputs,
      execution_count: run.execution_count
    });
    content.activeCellIndex = index;
    this._settle(run);
  }

  private _cellOf(run: ICellRun): ICellModel | undefined {
    return [...this._panel.context.model.cells].find(({ id }) => id === run.cell);
  }

  private _runs: readonly ICellRun[] = [];
  private _line: Rendered | null = null;
  private _list: Rendered | null = null;
  private _dialog: ListDialog | null = null;
  private _isDisposed = false;
}
