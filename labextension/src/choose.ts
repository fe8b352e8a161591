import { Dialog, showDialog } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

/**
 * Have a person choose one of these; null if none. As JupyterLab's own `InputDialog.getItem`, whose list has no name for
 * those who hear the page.
 */
export async function chooseOne(
  title: string,
  items: readonly string[],
  trans: TranslationBundle
): Promise<string | null> {
  const { button, value } = await showDialog<string>({
    title,
    body: new Choice(title, items),
    buttons: [
      Dialog.cancelButton({ label: trans.__('Cancel') }),
      Dialog.okButton({ label: trans.__('Continue') })
    ],
    focusNodeSelector: 'select'
  });
  return button.accept ? value : null;
}

class Choice extends Widget implements Dialog.IBodyWidget<string> {
  constructor(label: string, items: readonly string[]) {
    super();
    this.addClass('jp-Input-Dialog');
    this._select.className = 'jp-mod-styled';
    this._select.setAttribute('aria-label', label);
    this._select.append(...items.map(item => new Option(item, item)));
    const wrapper = document.createElement('div');
    wrapper.className = 'jp-select-wrapper';
    wrapper.append(this._select);
    this.node.append(wrapper);
  }

  getValue(): string {
    return this._select.value;
  }

  private readonly _select = document.createElement('select');
}
