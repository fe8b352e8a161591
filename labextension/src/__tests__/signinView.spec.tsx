import { Clipboard } from '@jupyterlab/apputils';
import { nullTranslator } from '@jupyterlab/translation';
import { act, cleanup, fireEvent, render, screen } from '@testing-library/react';

import { SignIn } from '../components/SignIn';
import { h } from '../jsx';
import { FakeSignIn } from './fakeModel';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');

describe('the sign-in', () => {
  let done: unknown[][];
  let model: FakeSignIn;
  let isNeeded: boolean;

  const element = () => (
    <SignIn
      model={model}
      isNeeded={isNeeded}
      onMenu={() => void done.push(['menu'])}
      trans={trans}
    />
  );
  const button = (name: string) => screen.getByRole('button', { name });
  const text = () => screen.getByRole('group', { name: 'Azure sign-in' }).textContent;

  beforeEach(() => {
    done = [];
    model = new FakeSignIn(done);
    isNeeded = true;
  });

  afterEach(() => {
    cleanup();
    jest.restoreAllMocks();
    jest.useRealTimers();
  });

  it('is one sentence and one way in while nobody is signed in', () => {
    model.status = fixtures.signedOut;
    render(element());
    expect(text()).toContain('Connect your Azure subscription to use bigger machines.');
    fireEvent.click(button('Sign in'));
    fireEvent.click(button('Other ways…'));
    expect(done).toEqual([['begin', undefined], ['choose']]);
  });

  it('shows nothing where there is nothing to sign in to', () => {
    model.status = fixtures.signedOut;
    isNeeded = false;
    const { container } = render(element());
    expect(container.textContent).toBe('');
  });

  it('shows address and code, and copies the code', () => {
    const copied = jest.spyOn(Clipboard, 'copyToSystem').mockImplementation(() => undefined);
    model.attempt = fixtures.signIn;
    render(element());
    expect(text()).toContain('Open microsoft.com/devicelogin and enter ABCD1234.');
    const link = screen.getByRole<HTMLAnchorElement>('link');
    expect([link.href, link.target, link.rel]).toEqual([
      'https://microsoft.com/devicelogin',
      '_blank',
      'noopener noreferrer'
    ]);
    fireEvent.click(button('Copy code'));
    expect(copied).toHaveBeenCalledWith('ABCD1234');
    expect(text()).toContain('Copied.');
    fireEvent.click(button('Cancel'));
    expect(done).toEqual([['cancel sign-in']]);
  });

  it('makes no link of an address that is not https', () => {
    model.attempt = { ...fixtures.signIn, url: 'javascript:alert(1)' };
    render(element());
    expect(screen.queryByRole('link')).toBeNull();
    expect(text()).toContain('Open javascript:alert(1) and enter');
  });

  it('says how long the code is good, outside of live regions', () => {
    jest.useFakeTimers({ now: Date.parse('2026-11-21T10:01:30.000Z') });
    model.attempt = fixtures.signIn;
    render(element());
    const left = screen.getByText('The code can be entered for 14 more minutes.');
    expect(left.closest('[role="status"], [aria-live]')).toBeNull();
    act(() => void jest.advanceTimersByTime(13 * 60_000));
    expect(screen.getByText('The code can be entered for one more minute.')).toBeTruthy();
    act(() => void jest.advanceTimersByTime(60_000));
    expect(screen.queryByText(/can be entered/)).toBeNull();
  });

  it('says nothing of the time where the clocks differ too much', () => {
    jest.useFakeTimers({ now: Date.parse('2026-11-20T10:00:00.000Z') });
    model.attempt = fixtures.signIn;
    render(element());
    expect(screen.queryByText(/can be entered/)).toBeNull();
  });

  it('keeps the keyboard where it was when the buttons change', () => {
    model.status = fixtures.signedOut;
    const { rerender } = render(element());
    button('Sign in').focus();
    model.isAsking = true;
    rerender(element());
    expect(document.activeElement).toBe(button('Cancel'));
    model.isAsking = false;
    model.attempt = fixtures.signIn;
    rerender(element());
    expect(document.activeElement).toBe(button('Copy code'));
    model.attempt = null;
    model.status = fixtures.signedIn;
    rerender(element());
    expect(document.activeElement).toBe(button('Azure account'));
  });

  it('takes the keyboard from nobody', () => {
    model.status = fixtures.signedOut;
    const { rerender } = render(element());
    model.attempt = fixtures.signIn;
    rerender(element());
    expect(document.activeElement).toBe(document.body);
  });

  it('says that running kernels do not mind an expired sign-in', () => {
    model.status = {
      ...fixtures.signedIn,
      state: 'failed',
      error: { code: 'AADSTS50173', message: 'It was revoked.', advice: 'Sign in again.' }
    };
    render(element());
    expect(text()).toContain('Your Azure sign-in has expired. Running kernels are not affected.');
    expect(text()).toContain('It was revoked.');
    expect(screen.queryByRole('alert')).toBeNull();
    fireEvent.click(button('Sign in'));
    expect(done).toEqual([['begin', undefined]]);
  });

  it('says why it failed and what to do, with a link where Microsoft has a page', () => {
    model.error = {
      code: 'AADSTS50079',
      message: 'A second factor is needed.',
      advice: 'Set one up at https://aka.ms/mfasetup.'
    };
    render(element());
    expect(screen.getByRole('alert').textContent).toContain('A second factor is needed.');
    expect(screen.getByRole('link', { name: 'https://aka.ms/mfasetup' })).toBeTruthy();
    fireEvent.click(button('Try again'));
    fireEvent.click(button('Other ways…'));
    fireEvent.click(button('Dismiss'));
    expect(done).toEqual([['begin', undefined], ['choose'], ['dismiss']]);
  });

  it('says that another page is at it, without a code', () => {
    model.status = { ...fixtures.signIn, id: null, code: null, url: null };
    render(element());
    expect(text()).toContain('Somebody is signing in just now.');
    expect(screen.queryByRole('link')).toBeNull();
    expect(button('Sign in here')).toBeTruthy();
  });

  it.each([
    [{}, 'Signed in as ada@example.com.'],
    [{ kept: true }, 'Signed in as ada@example.com. Kept, encrypted.'],
    [{ method: 'azure_cli' as const }, 'Signed in as ada@example.com with the Azure CLI.'],
    [
      { method: 'managed_identity' as const, account: null },
      'Signed in with the machine’s managed identity.'
    ]
  ])('says who is signed in, and how (%#)', (more, expected) => {
    model.status = { ...fixtures.signedIn, ...more };
    render(element());
    expect(screen.getByRole('status').textContent).toBe(expected);
    fireEvent.click(button('Azure account'));
    expect(done).toEqual([['menu']]);
  });

  it('is a line and no more where the token is in a file', () => {
    model.status = { ...fixtures.signedIn, method: 'token_file', account: null };
    render(element());
    expect(text()).toBe('Signed in with the token in AzureCompute.token_file.');
    expect(screen.queryByRole('button')).toBeNull();
  });
});

describe('the other ways in', () => {
  let done: unknown[][];
  let model: FakeSignIn;

  beforeEach(() => {
    done = [];
    model = new FakeSignIn(done);
    model.isChoosing = true;
    render(<SignIn model={model} isNeeded onMenu={() => undefined} trans={trans} />);
  });

  afterEach(cleanup);

  it('are a tenant, and keeping it', () => {
    const tenant = screen.getByLabelText('Tenant');
    expect(document.activeElement).toBe(tenant);
    fireEvent.change(tenant, { target: { value: ' contoso.com ' } });
    fireEvent.click(screen.getByLabelText('Keep me signed in (encrypted)'));
    fireEvent.click(screen.getByRole('button', { name: 'Get a code' }));
    fireEvent.click(screen.getByRole('button', { name: 'Cancel' }));
    expect(done).toEqual([['begin', { tenant: 'contoso.com', keep: true }], ['dismiss']]);
  });

  it('are a token, which is in its field no longer once it is sent', () => {
    const field = screen.getByLabelText<HTMLInputElement>(/: a token$/);
    expect([field.type, field.autocomplete]).toEqual(['password', 'off']);
    fireEvent.click(screen.getByRole('button', { name: 'Use this token' }));
    expect(done).toEqual([]);
    expect(document.activeElement).toBe(field);
    fireEvent.change(field, { target: { value: 'eyJ0-secret\n' } });
    fireEvent.click(screen.getByRole('button', { name: 'Use this token' }));
    expect(done).toEqual([['paste', 'eyJ0-secret']]);
    expect(field.value).toBe('');
  });
});
