import { Dialog, ReactWidget } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';

/** The body of such a dialog. */
export interface ISubmitting extends ReactWidget {
  /** Have it done. Whether it has begun; where not, the body says why. */
  submit(): Promise<boolean>;
}

/** A dialog that closes once the server has taken what was asked for, and stays open with the reason where it has not. */
export class SubmittingDialog extends Dialog<void> {
  constructor(
    private readonly _submitting: ISubmitting,
    options: { title: string; submit: string; trans: TranslationBundle }
  ) {
    super({
      title: options.title,
      body: _submitting,
      buttons: [
        Dialog.cancelButton({ label: options.trans.__('Cancel') }),
        Dialog.okButton({ label: options.submit })
      ],
      defaultButton: 1,
      focusNodeSelector: '[data-first]'
    });
    this.addClass('jp-Dsvm-submitting');
  }

  /** Enter chooses nothing from within the body: what costs money or ends kernels is asked for on its button. */
  handleEvent(event: Event): void {
    const isEnter = event.type === 'keydown' && (event as KeyboardEvent).key === 'Enter';
    if (!(isEnter && this._submitting.node.contains(event.target as Node))) {
      super.handleEvent(event);
    }
  }

  /** A button was pressed. */
  resolve(index?: number): void {
    if (index === 1) {
      void this._submitting.submit().then(isTaken => {
        if (isTaken) {
          super.resolve(1);
        }
      });
    } else {
      super.resolve(index);
    }
  }
}
