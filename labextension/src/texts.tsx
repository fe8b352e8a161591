import { Dialog, ReactWidget, showDialog } from '@jupyterlab/apputils';
import * as React from 'react';

import { Linked } from './components/Linked';
import { h } from './jsx';

/** Show texts of the server, each a paragraph. Pages of Microsoft's in them can be clicked. */
export async function showTexts(title: string, texts: readonly string[]): Promise<void> {
  await showDialog({ title, body: new Texts(texts), buttons: [Dialog.okButton()] });
}

class Texts extends ReactWidget {
  constructor(private readonly _texts: readonly string[]) {
    super();
    this.addClass('jp-Dsvm-texts');
  }

  protected render(): React.ReactElement {
    return (
      <>
        {this._texts.map((text, index) => (
          <p key={index}>
            <Linked text={text} />
          </p>
        ))}
      </>
    );
  }
}
