import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { nullTranslator } from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';
import { Panel, Widget } from '@lumino/widgets';

import { showDeadWidgets } from '../widgets';

const VIEW = 'application/vnd.jupyter.widget-view+json';
const GONE = 'This widget does not answer any more';

/** What jupyterlab_widgets' renderer does, as far as it matters here. */
class Renderer extends Panel {
  readonly _manager = { promise: Promise.resolve(this._known) };

  constructor(private readonly _known: IKnown) {
    super();
  }

  async renderModel(model: { data: Record<string, unknown> }): Promise<void> {
    const source = model.data[VIEW] as { model_id: string };
    this.node.textContent = 'Loading widget...';
    if (source.model_id === '') {
      this.hide();
    } else if (this._known.has_model(source.model_id)) {
      this.node.textContent = '';
      const view = new Widget();
      view.node.innerHTML = '<input value="1" />';
      this.addWidget(view);
      view.disposed.connect(() => {
        this.hide();
        source.model_id = '';
      });
    } else if (this._known.restoredStatus) {
      this.node.textContent = 'Error displaying widget: model not found';
    }
  }
}

interface IKnown {
  restoredStatus: boolean;
  has_model(id: string): boolean;
}

function notebook(known: Partial<IKnown>, hasNoKernel = false) {
  const widgetAdded = new Signal<object, NotebookPanel>({});
  const anyMessage = new Signal<object, object>({});
  const rendermime = {
    createRenderer: () => new Renderer({ restoredStatus: true, has_model: () => true, ...known })
  };
  const panel = {
    content: { rendermime },
    sessionContext: {
      isReady: true,
      hasNoKernel,
      session: { anyMessage },
      sessionChanged: new Signal<object, object>({})
    }
  };
  showDeadWidgets({ widgetAdded } as unknown as INotebookTracker, nullTranslator.load(''));
  widgetAdded.emit(panel as unknown as NotebookPanel);
  const create = rendermime.createRenderer as (mimeType: string) => Renderer;
  const view = { model_id: 'w-1' };
  const renderer = create(VIEW);
  return {
    renderer,
    view,
    render: () =>
      renderer.renderModel({ data: { [VIEW]: view, 'text/plain': ['IntSlider(', 'value=3)'] } }),
    close: async (parent: object) => {
      anyMessage.emit({
        msg: {
          header: { msg_type: 'comm_close' },
          channel: 'iopub',
          parent_header: parent,
          content: { comm_id: 'w-1' }
        }
      });
      renderer.widgets[0].dispose();
      await Promise.resolve();
    }
  };
}

describe('a widget', () => {
  it('that the kernel knows is left to its own renderer', async () => {
    const { render, renderer } = notebook({});
    await render();
    expect(renderer.node.textContent).toBe('');
    expect(renderer.node.querySelector('input')).not.toBeNull();
  });

  it.each<[string, Partial<IKnown>, boolean]>([
    ['the kernel does not know', { has_model: () => false }, false],
    ['has no kernel', { has_model: () => false, restoredStatus: false }, true]
  ])('that %s is its text below a sentence', async (_, known, hasNoKernel) => {
    const { render, renderer, view } = notebook(known, hasNoKernel);
    await render();
    expect(renderer.node.textContent).toContain(GONE);
    expect(renderer.node.querySelector('pre')?.textContent).toBe('IntSlider(value=3)');
    expect(renderer.node.textContent).not.toContain('model not found');
    expect(view.model_id).toBe('w-1');
  });

  it('is waited for as long as the kernel has not said which there are', async () => {
    const { render, renderer } = notebook({ has_model: () => false, restoredStatus: false });
    await render();
    expect(renderer.node.textContent).toBe('Loading widget...');
  });

  it('is shown as it looked last when the notebook leaves its kernel, and is saved as it was', async () => {
    const { render, renderer, view, close } = notebook({});
    await render();
    await close({});
    expect(renderer.isHidden).toBe(false);
    expect(renderer.node.textContent).toContain(GONE);
    const picture = renderer.node.querySelector('input')!;
    expect(picture.closest<HTMLElement>('div.lm-Panel')?.inert).toBe(true);
    expect(view.model_id).toBe('w-1');
  });

  it('that its own kernel closes is hidden, also in the file', async () => {
    const { render, renderer, view, close } = notebook({});
    await render();
    await close({ msg_id: 'm1' });
    expect(renderer.isHidden).toBe(true);
    expect(view.model_id).toBe('');
  });
});
