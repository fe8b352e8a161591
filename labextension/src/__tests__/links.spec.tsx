import { cleanup, render, screen } from '@testing-library/react';

import { Linked } from '../components/Linked';
import { h } from '../jsx';
import { textParts, trusted } from '../links';

afterEach(cleanup);

describe('addresses in texts', () => {
  it.each([
    'https://aka.ms/mfasetup',
    'https://portal.azure.com/#view/Microsoft_Azure_Capacity/QuotaMenuBlade/~/myQuotas',
    'https://portal.azure.us/',
    'https://learn.microsoft.com/azure',
    'https://microsoft.com/devicelogin',
    'https://myaccount.microsoft.com/'
  ])('%s may be clicked', address => {
    expect(trusted(address)).toBe(address);
  });

  it.each([
    'http://aka.ms/x',
    'javascript:alert(1)',
    'https://evil.example/aka.ms',
    'https://aka.ms.evil.example/',
    'https://notmicrosoft.com/',
    'https://portal.azure.com@evil.example/',
    'https://user@portal.azure.com/',
    'https://portal.azure.com:8443/',
    'https://mine.westeurope.cloudapp.azure.com/',
    'https://mine.azure.com/',
    'https://a.b.microsoft.com/',
    'https://'
  ])('%s may not', address => {
    expect(trusted(address)).toBeUndefined();
  });

  it('leaves the text as it is, and what ends a sentence out of the address', () => {
    const text =
      'Ask at https://portal.azure.com/#view/x, or see (https://aka.ms/y). Not https://evil.example/z.';
    const parts = textParts(text);
    expect(parts.map(part => part.text).join('')).toBe(text);
    expect(parts.filter(part => part.href).map(part => part.text)).toEqual([
      'https://portal.azure.com/#view/x',
      'https://aka.ms/y'
    ]);
    expect(textParts('')).toEqual([]);
  });

  it('opens them beside this page, which they cannot reach', () => {
    render(<Linked text="See https://aka.ms/y and <img src=x>." />);
    const link = screen.getByRole<HTMLAnchorElement>('link', { name: 'https://aka.ms/y' });
    expect([link.href, link.target, link.rel]).toEqual([
      'https://aka.ms/y',
      '_blank',
      'noopener noreferrer'
    ]);
    expect(document.querySelector('img')).toBeNull();
    expect(document.body.textContent).toBe('See https://aka.ms/y and <img src=x>.');
  });
});
