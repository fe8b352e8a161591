import { addMessages, findMessages, IFound } from './messages';

const inSource = (content: string): IFound => {
  const found: IFound = { messages: [], faults: [] };
  addMessages('example.tsx', content, found);
  return found;
};

describe('the texts of the package', () => {
  const { messages, faults } = findMessages();

  it('are literals, so that they can be found and translated', () => {
    expect(faults).toEqual([]);
    expect(messages.length).toBeGreaterThan(100);
  });
});

describe('finding them', () => {
  it('knows all ways to say something', () => {
    const { messages, faults } = inSource(
      [
        "props.trans.__('One');",
        "this._trans._n('%1 thing', '%1 things', 2);",
        "trans._p('verb', 'Open');",
        'other.__("not ours");'
      ].join('\n')
    );
    expect(faults).toEqual([]);
    expect(messages).toEqual([
      { text: 'One', where: 'example.tsx:1' },
      { text: '%1 thing', plural: '%1 things', where: 'example.tsx:2' },
      { context: 'verb', text: 'Open', where: 'example.tsx:3' }
    ]);
  });

  it.each(['trans.__(name);', 'trans.__(`of ${name}`);', "trans.__('a' + 'b');", 'trans.__();'])(
    'finds fault with %s',
    call => {
      expect(inSource(call).faults).toEqual([expect.stringContaining('is no literal')]);
    }
  );
});
