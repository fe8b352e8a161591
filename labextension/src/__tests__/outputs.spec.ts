import { CASES, Page, passed } from './frontEnd';

describe('what the front end makes of messages', () => {
  beforeEach(() => {
    jest.spyOn(console, 'debug').mockImplementation(); // each kernel connection says that it opens
  });

  it('is what the recorded sequences say', async () => {
    expect(CASES.length).toBeGreaterThan(100);
    for (const { events, cells } of CASES) {
      const page = new Page();
      await passed();
      for (const event of events) {
        await page.happens(event);
      }
      const held = Object.fromEntries(
        [...page.areas].map(([cell, area]) => [cell, area.model.toJSON()])
      );
      expect({ events, cells: JSON.parse(JSON.stringify(held)) }).toEqual({ events, cells });
      page.dispose();
    }
  });
});
