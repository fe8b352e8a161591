import { ReactWidget } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { ICreation, IProblem } from './api';
import { CreateForm, IWanted } from './components/CreateForm';
import { h } from './jsx';
import { asProblem } from './request';
import { ISubmitting, SubmittingDialog } from './submitting';
import { IComputeModel } from './tokens';

export interface ICreateOptions {
  model: IComputeModel;
  trans: TranslationBundle;
}

/** Let the person say what machine to make, and have it made. */
export async function create(options: ICreateOptions): Promise<void> {
  const { trans } = options;
  const body = new CreateBody(options);
  const title = trans.__('Create a machine');
  const dialog = new SubmittingDialog(body, { title, submit: trans.__('Create'), trans });
  void body.load(null, null);
  await dialog.launch();
}

class CreateBody extends ReactWidget implements ISubmitting {
  constructor(private readonly _options: ICreateOptions) {
    super();
    this.addClass('jp-Dsvm-submittingBody');
  }

  /** Ask what can be chosen there; the server chooses what is null. */
  async load(subscription: string | null, location: string | null): Promise<void> {
    const asked = ++this._asked;
    this._isLoading = true;
    this._problem = null;
    if (this._creation) {
      // What was chosen is shown at once, and its sizes when they are known.
      this._creation = { ...this._creation, subscription, location, sizes: [] };
      this._wanted.size = '';
    }
    this._say('');
    try {
      const creation = await this._options.model.creation(subscription, location);
      if (asked === this._asked) {
        this._creation = creation;
      }
    } catch (reason) {
      if (asked === this._asked) {
        this._problem = asProblem(reason);
      }
    }
    if (asked === this._asked) {
      this._isLoading = false;
      this.update();
    }
  }

  async submit(): Promise<boolean> {
    const { model, trans } = this._options;
    const creation = this._creation;
    const { name, size, sourceAddress, resourceGroup } = this._wanted;
    const isPrivate = this._wanted.isPrivate || !!creation?.private_only;
    if (this._isSending) {
      return false;
    }
    if (!creation?.allowed) {
      this._say(trans.__('There is nothing to create yet.'));
      return false;
    }
    if (!name.trim()) {
      this._say(trans.__('Give it a name first.'));
      return false;
    }
    if (!creation.location) {
      this._say(trans.__('Choose a region first.'));
      return false;
    }
    if (!size) {
      this._say(trans.__('Choose a size first.'));
      return false;
    }
    if (!isPrivate && !sourceAddress.trim() && !creation.source_address) {
      this._say(
        trans.__('Say which address may reach it, such as 203.0.113.7, or make it private.')
      );
      return false;
    }
    this._isSending = true;
    this._problem = null;
    this._say(trans.__('Asking Azure…'));
    try {
      await model.create({
        name: name.trim(),
        location: creation.location,
        size,
        subscription: creation.subscription,
        resource_group: resourceGroup.trim() || null,
        private: isPrivate || null,
        source_address: (!isPrivate && sourceAddress.trim()) || null,
        disk_gib: null
      });
      return true;
    } catch (reason) {
      this._problem = asProblem(reason);
      this._say('');
      return false;
    } finally {
      this._isSending = false;
    }
  }

  protected render(): React.ReactElement {
    return (
      <CreateForm
        creation={this._creation}
        isLoading={this._isLoading}
        wanted={this._wanted}
        problem={this._problem}
        missing={this._missing}
        onChange={change => {
          this._wanted = { ...this._wanted, ...change };
          this._say('');
        }}
        onPlace={(subscription, location) => void this.load(subscription, location)}
        trans={this._options.trans}
      />
    );
  }

  private _say(missing: string): void {
    this._missing = missing;
    this.update();
  }

  private _creation: ICreation | null = null;
  private _wanted: IWanted = {
    name: '',
    size: '',
    isPrivate: false,
    sourceAddress: '',
    resourceGroup: ''
  };
  private _problem: IProblem | null = null;
  private _missing = '';
  private _isLoading = false;
  private _isSending = false;
  /** Counts the questions, so that a late answer is known as one. */
  private _asked = 0;
}
