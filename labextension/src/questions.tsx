import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Dialog, ReactWidget } from '@jupyterlab/apputils';
import { Event, ServerConnection } from '@jupyterlab/services';
import { ITranslator, nullTranslator, TranslationBundle } from '@jupyterlab/translation';
import { IDisposable } from '@lumino/disposable';
import { IStream } from '@lumino/signaling';
import * as React from 'react';

import { CHANGED_SCHEMA_ID, IChanged, IProblem, IQuestion, IQuestionList } from './api';
import { Problem } from './components/Problem';
import { h } from './jsx';
import { RevisionedList } from './lists';
import { watchForMissedEvents } from './reconnect';
import { asProblem, NO_ANSWER, request, RequestError } from './request';
import { IComputeModel } from './tokens';
import { nameOf, priceText } from './words';

/** What the server says of a question that was answered in another page, or taken back. */
const UNKNOWN_QUESTION = 'UnknownQuestion';

/** The place of “Not now” among the buttons, where the focus is: the other one spends money, or trusts a machine. */
const NOT_NOW = 0;

/**
 * What code of notebooks wants to do and a person has to allow: a dialog for each question of the server, in every page.
 *
 * The first answer counts. A dialog goes away when its question does: answered in another page, or its cell interrupted.
 */
export class Questions implements IDisposable {
  constructor(private readonly _options: Questions.IOptions) {
    const { serverSettings, trans, stream } = _options;
    this._list = new RevisionedList<IQuestionList>({
      fetch: () => request<IQuestionList>('questions', serverSettings, trans),
      accept: ({ questions }) => this._take(questions),
      // A server without questions has none, and one that is not reached is asked again.
      failed: () => undefined,
      minimumGap: _options.minimumGap ?? 100,
      isUnreached: reason => asProblem(reason).code === NO_ANSWER,
      retry: _options.retry ?? { first: 1000, longest: 30_000 }
    });
    stream.connect(this._onEvent, this);
    this.resync();
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Events may have been missed. */
  resync(): void {
    this._list.fetchAgain();
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this._options.stream.disconnect(this._onEvent, this);
    this._list.dispose();
    this._take([]);
  }

  private _onEvent(_: Event.IManager, emission: Event.Emission): void {
    const { what, revision } = emission as unknown as IChanged;
    if (
      emission.schema_id === CHANGED_SCHEMA_ID &&
      what === 'questions' &&
      Number.isFinite(revision)
    ) {
      this._list.expect(revision);
    }
  }

  private _take(questions: readonly IQuestion[]): void {
    const waiting = new Set(questions.map(({ id }) => id));
    for (const [id, dialog] of this._dialogs) {
      if (!waiting.has(id)) {
        this._dialogs.delete(id);
        dialog.withdraw();
      }
    }
    for (const question of questions) {
      if (!this._dialogs.has(question.id) && !this._done.has(question.id)) {
        this._show(question);
      }
    }
  }

  private _show(question: IQuestion): void {
    const { model, trans } = this._options;
    const name = nameOf(model.compute(question.compute), question.compute, trans);
    const dialog = new QuestionDialog({
      question,
      name,
      trans,
      answer: yes => this._answer(question, yes)
    });
    this._dialogs.set(question.id, dialog);
    const gone = () => {
      this._dialogs.delete(question.id);
    };
    void dialog.launch().then(gone, gone);
  }

  /** Null when the server has it, or needs it no more; otherwise why it could not be given. */
  private async _answer(question: IQuestion, yes: boolean): Promise<IProblem | null> {
    const { serverSettings, trans } = this._options;
    this._done.add(question.id);
    try {
      await request<void>(`questions/${encodeURIComponent(question.id)}`, serverSettings, trans, {
        method: 'PUT',
        body: JSON.stringify({ answer: yes ? 'yes' : 'no' })
      });
      return null;
    } catch (reason) {
      const problem = asProblem(reason);
      if (problem.code === UNKNOWN_QUESTION) {
        return null;
      }
      if (reason instanceof RequestError && reason.status === 403) {
        return {
          ...problem,
          message: trans.__('You are not allowed to answer this on this server.'),
          advice: trans.__('Ask the person whose server it is.')
        };
      }
      this._done.delete(question.id);
      return problem;
    }
  }

  private readonly _list: RevisionedList<IQuestionList>;
  private readonly _dialogs = new Map<string, QuestionDialog>();
  /** Answered here, or not to be answered from here. */
  private readonly _done = new Set<string>();
  private _isDisposed = false;
}

export namespace Questions {
  export interface IOptions {
    serverSettings: ServerConnection.ISettings;
    /** `app.serviceManager.events.stream`. */
    stream: IStream<Event.IManager, Event.Emission>;
    /** For the names of machines. */
    model: Pick<IComputeModel, 'compute'>;
    trans: TranslationBundle;
    /** Milliseconds between two fetches. */
    minimumGap?: number;
    /** Milliseconds until a server that was not reached is asked again: the first time, and at most. */
    retry?: { first: number; longest: number };
  }
}

interface IQuestionOptions {
  question: IQuestion;
  /** Of the machine. */
  name: string;
  trans: TranslationBundle;
  answer: (yes: boolean) => Promise<IProblem | null>;
}

/** Stays open, with the reason, where a yes could not be given. */
class QuestionDialog extends Dialog<void> {
  constructor(private readonly _options: IQuestionOptions) {
    const { question, name, trans } = _options;
    const body = new QuestionBody(_options);
    const { title, yes } = {
      start: { title: trans.__('Start %1?', name), yes: trans.__('Start it') },
      resize: { title: trans.__('Change the size of %1?', name), yes: trans.__('Change it') },
      carry: { title: trans.__('Carry variables from %1?', name), yes: trans.__('Carry them') }
    }[question.kind];
    super({
      title,
      body,
      buttons: [
        Dialog.cancelButton({ label: trans.__('Not now') }),
        Dialog.okButton({ label: yes })
      ],
      defaultButton: NOT_NOW
    });
    this._content = body;
    this.addClass('jp-Dsvm-question');
  }

  /** Its question is gone. Not by disposing of it: that would reject what dialogs behind it in the queue wait for. */
  withdraw(): void {
    super.resolve(NOT_NOW);
  }

  /** A button was pressed, or Escape, which is “Not now”. */
  resolve(index?: number): void {
    const yes = index !== undefined && index !== NOT_NOW;
    if (this.isDisposed) {
      return; // its question is gone
    }
    if (!yes) {
      // Whoever says no waits for nothing. A no that does not arrive is asked for again once the server is back.
      void this._options.answer(false);
      super.resolve(NOT_NOW);
    } else if (!this._content.isSending) {
      void this._content.send().then(isTaken => {
        if (isTaken && !this.isDisposed) {
          super.resolve(index);
        }
      });
    }
  }

  reject(): void {
    this.resolve(NOT_NOW);
  }

  private readonly _content: QuestionBody;
}

class QuestionBody extends ReactWidget {
  constructor(private readonly _options: IQuestionOptions) {
    super();
    this.addClass('jp-Dsvm-texts');
  }

  get isSending(): boolean {
    return this._isSending;
  }

  async send(): Promise<boolean> {
    this._isSending = true;
    this._problem = null;
    this.update();
    this._problem = await this._options.answer(true);
    this._isSending = false;
    this.update();
    return this._problem === null;
  }

  protected render(): React.ReactElement {
    const { question, trans } = this._options;
    const price = question.price && priceText(question.price, trans);
    const cost =
      price === null
        ? trans.__('What it costs is not known.')
        : question.kind === 'resize'
          ? trans.__('With that size it costs %1 while it is on.', price)
          : trans.__('It costs %1 until it is stopped.', price);
    const about = question.price
      ? trans.__(
          'An estimate from Azure’s list of prices, as of %1.',
          question.price.as_of.slice(0, 10)
        )
      : undefined;
    const isCarry = question.kind === 'carry';
    const kept = isCarry
      ? trans.__('Your yes is kept for this machine.')
      : question.path
        ? trans.__(
            'Your yes is kept for this notebook and this machine for 30 days, as long as the price does not rise.'
          )
        : trans.__('Your answer is for this time only.');
    return (
      <>
        <p>{question.text}</p>
        {!isCarry && (
          <p className="jp-Dsvm-cost" title={about}>
            {cost}
          </p>
        )}
        <p className="jp-Dsvm-kept">{kept}</p>
        {this._isSending && <p role="status">{trans.__('Answering…')}</p>}
        {this._problem && <Problem problem={this._problem} trans={trans} />}
      </>
    );
  }

  private _isSending = false;
  private _problem: IProblem | null = null;
}

export const questionsPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-dsvm:questions',
  description:
    'Asks before code in a notebook starts something that is billed, or loads what a machine sends.',
  autoStart: true,
  requires: [IComputeModel],
  optional: [ITranslator],
  activate: (app: JupyterFrontEnd, model: IComputeModel, translator: ITranslator | null): void => {
    const { events, serverSettings } = app.serviceManager;
    const questions = new Questions({
      serverSettings,
      stream: events.stream,
      model,
      trans: (translator ?? nullTranslator).load('jupyter_dsvm')
    });
    watchForMissedEvents(events, () => questions.resync());
  }
};
