import { nullTranslator } from '@jupyterlab/translation';
import { fireEvent, screen, waitFor, within } from '@testing-library/dom';

import { create } from '../create';
import { RequestError } from '../request';
import { FakeModel } from './fakeModel';
import { settle } from './fakeServer';
import { closeDialogs } from './closeDialogs';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');

const ADDRESS = /^This server’s public address/;

describe('the dialog that makes a machine', () => {
  let model: FakeModel;
  let done: Promise<void>;

  const open = async (): Promise<void> => {
    done = create({ model, trans });
    await waitFor(() => expect(document.querySelector('.jp-Dsvm-sizeChoice')).not.toBeNull());
    await settle(50);
    // The browser's own style sheet hides an unopened <dialog>; JupyterLab's shows it, and jsdom has only the first.
    document.querySelector('dialog')?.setAttribute('open', '');
  };
  const dialog = () => within(screen.getByRole('dialog'));
  const press = async (name: string): Promise<void> => {
    fireEvent.click(dialog().getByRole('button', { name }));
    await settle(50);
  };
  const type = (label: string | RegExp, value: string) =>
    fireEvent.input(dialog().getByLabelText(label), { target: { value } });

  beforeEach(() => {
    model = new FakeModel();
  });

  afterEach(async () => {
    if (screen.queryByRole('dialog')) {
      await press('Cancel');
      await done;
    }
    closeDialogs();
    document.body.textContent = '';
  });

  it('says what is missing, then has it made', async () => {
    await open();
    expect(document.activeElement).toBe(dialog().getByLabelText('Name'));
    expect(dialog().queryByLabelText('Subscription')).toBeNull();
    await press('Create');
    await dialog().findByText('Give it a name first.');
    type('Name', ' new-vm ');
    await press('Create');
    await dialog().findByText('Choose a size first.');
    fireEvent.click(dialog().getByRole('radio', { name: 'NC8as_T4_v3' }));
    await press('Create');
    await dialog().findByText(/^Say which address may reach it/);
    type(ADDRESS, '203.0.113.7');
    await press('Create');
    await done;
    expect(model.done).toEqual([
      ['create', { ...fixtures.newCompute, subscription: 'sub1', disk_gib: null }]
    ]);
  });

  it('asks for no address of a private machine', async () => {
    await open();
    type('Name', 'new-vm');
    type(ADDRESS, '203.0.113.7');
    fireEvent.click(dialog().getByRole('checkbox', { name: 'Private: no public address' }));
    fireEvent.click(dialog().getByRole('radio', { name: 'NC8as_T4_v3' }));
    await waitFor(() => expect(dialog().queryByLabelText(ADDRESS)).toBeNull());
    await press('Create');
    await done;
    expect(model.done[0][1]).toMatchObject({ private: true, source_address: null });
  });

  it('offers no public address where the administrator wants none', async () => {
    model.choices = { ...fixtures.creation, private_only: true };
    await open();
    expect(dialog().queryByLabelText(ADDRESS)).toBeNull();
    expect(dialog().queryByRole('checkbox', { name: /^Private/ })).toBeNull();
    type('Name', 'new-vm');
    fireEvent.click(dialog().getByRole('radio', { name: 'NC8as_T4_v3' }));
    await press('Create');
    await done;
    expect(model.done[0][1]).toMatchObject({ private: true, source_address: null });
  });

  it('asks for the sizes of another region or subscription', async () => {
    model.choices = {
      ...fixtures.creation,
      subscriptions: [
        ...fixtures.creation.subscriptions,
        { id: 'sub2', name: 'Free', available: false, reason: 'Free accounts have no GPUs.' }
      ],
      locations: [...fixtures.creation.locations, { name: 'northeurope', text: 'North Europe' }]
    };
    await open();
    const off = dialog().getByRole<HTMLOptionElement>('option', { name: /^Free:/ });
    expect([off.disabled, off.textContent]).toEqual([true, 'Free: Free accounts have no GPUs.']);
    fireEvent.click(dialog().getByRole('radio', { name: 'NC8as_T4_v3' }));
    fireEvent.change(dialog().getByLabelText('Region'), { target: { value: 'northeurope' } });
    await waitFor(() =>
      expect(model.places).toEqual([
        [null, null],
        ['sub1', 'northeurope']
      ])
    );
    type('Name', 'new-vm');
    await press('Create');
    await dialog().findByText('Choose a size first.');
  });

  it('says why none can be made', async () => {
    model.choices = { ...fixtures.creation, allowed: false, reason: 'Your role is Reader.' };
    await open();
    await dialog().findByText('Your role is Reader.');
    await press('Create');
    await dialog().findByText('There is nothing to create yet.');
  });

  it('stays open and says why where it is refused', async () => {
    model.create = () => Promise.reject(new RequestError(fixtures.problem, 409));
    await open();
    type('Name', 'new-vm');
    type(ADDRESS, '203.0.113.7');
    fireEvent.click(dialog().getByRole('radio', { name: 'NC8as_T4_v3' }));
    await press('Create');
    expect(dialog().getByRole('alert').textContent).toContain(fixtures.problem.advice);
    expect(dialog().getByLabelText<HTMLInputElement>('Name').value).toBe('new-vm');
  });
});
