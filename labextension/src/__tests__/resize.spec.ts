import { nullTranslator } from '@jupyterlab/translation';
import { fireEvent, screen, waitFor, within } from '@testing-library/dom';

import { ISizeOffer } from '../api';
import { fittingOffers } from '../offers';
import { RequestError } from '../request';
import { resize } from '../resize';
import { FakeModel } from './fakeModel';
import { settle } from './fakeServer';
import { closeDialogs } from './closeDialogs';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');

const offer = (
  name: string,
  gpu_model: string | null,
  more: Partial<ISizeOffer> = {}
): ISizeOffer => ({
  ...fixtures.sizeOffer,
  size: { name, vcpus: 4, memory_gib: 28, gpus: gpu_model ? 1 : 0, gpu_model },
  ...more
});

const OFFERS = [
  offer('Standard_NC4as_T4_v3', 'NVIDIA T4 16 GB', { current: true }),
  offer('Standard_NC8as_T4_v3', 'NVIDIA T4 16 GB'),
  offer('Standard_NV12ads_A10_v5', 'NVIDIA A10 8 GB', {
    warnings: ['The image has no drivers for it.'],
    price: null
  }),
  offer('Standard_D4s_v5', null, {
    available: false,
    reason: 'Its quota is used up: https://aka.ms/quota.'
  })
];

describe('the resize dialog', () => {
  let model: FakeModel;
  let done: Promise<void>;

  const open = async (attached: string[] = [], withoutGpu = false): Promise<void> => {
    model.computes = [fixtures.free, { ...fixtures.gpu, attached }];
    done = resize({ model, compute: model.computes[1], withoutGpu, trans });
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
  const radio = (name: string) => dialog().getByRole<HTMLInputElement>('radio', { name });

  beforeEach(() => {
    model = new FakeModel();
    model.offers = async () => ({ sizes: OFFERS, notice: 'gpu-vm is turned off for it.' });
  });

  afterEach(async () => {
    if (screen.queryByRole('dialog')) {
      await press('Cancel');
      await done;
    }
    closeDialogs();
    document.body.textContent = '';
  });

  it('begins with sizes without GPU for who gets no others, and shows the rest to who asks', async () => {
    await open([], true);
    await dialog().findByText('1 of 4 sizes');
    expect(radio('D4s_v5')).toBeTruthy();
    expect(dialog().queryByLabelText('Only with GPU')).toBeNull();
    fireEvent.click(dialog().getByLabelText('Only without GPU'));
    expect(dialog().getByText('4 of 4 sizes')).toBeTruthy();
    fireEvent.click(dialog().getByLabelText('Only with GPU'));
    expect(dialog().getByText('3 of 4 sizes')).toBeTruthy();
  });

  it('shows what can be had, what cannot and why, and what it is now', async () => {
    await open();
    await dialog().findByText('gpu-vm is turned off for it.');
    expect(document.activeElement).toBe(dialog().getByRole('searchbox'));
    expect(dialog().getByRole('radiogroup', { name: 'Sizes for gpu-vm' })).toBeTruthy();
    expect([radio('NC4as_T4_v3').disabled, radio('NC8as_T4_v3').disabled]).toEqual([true, false]);
    expect(radio('D4s_v5').disabled).toBe(true);
    const notes = (name: string) =>
      document.getElementById(radio(name).getAttribute('aria-describedby') ?? '')?.textContent;
    expect(notes('NC4as_T4_v3')).toBe('Its size now.');
    expect(notes('NV12ads_A10_v5')).toBe('The image has no drivers for it.');
    expect(notes('D4s_v5')).toBe('Its quota is used up: https://aka.ms/quota.');
    expect(dialog().getByRole('link', { name: 'https://aka.ms/quota' })).toBeTruthy();
    const row = radio('NC8as_T4_v3').closest('tr')!;
    expect([...row.cells].map(cell => cell.textContent)).toEqual([
      'NC8as_T4_v3',
      '4',
      '28 GB',
      '1 × T4',
      '~$0.94/h'
    ]);
    await press('Cancel');
    await done;
    expect(model.done).toEqual([]);
  });

  it('resizes to what was chosen, and says before what that changes', async () => {
    await open();
    await press('Resize');
    await dialog().findByText('Choose a size first.');
    fireEvent.click(radio('NC8as_T4_v3'));
    await settle(20);
    await dialog().findByText(
      'gpu-vm becomes NC8as_T4_v3 · 4 CPU · 28 GB · 1 × T4 · ~$0.94/h in place of ~$0.53/h'
    );
    await press('Resize');
    await done;
    expect(model.done).toEqual([['resize', fixtures.gpu.id, { size: 'Standard_NC8as_T4_v3' }]]);
  });

  it('ends kernels only after a yes that names their notebooks', async () => {
    await open(['work/analysis.ipynb', 'train.ipynb']);
    fireEvent.click(radio('NC8as_T4_v3'));
    await press('Resize');
    expect(model.done).toEqual([]);
    await dialog().findByText('Kernels run there. Tick the box if they may end.');
    fireEvent.click(
      dialog().getByRole('checkbox', {
        name: /^End the kernels of work\/analysis\.ipynb, train\.ipynb\./
      })
    );
    await press('Resize');
    await done;
    expect(model.done).toEqual([
      ['resize', fixtures.gpu.id, { size: 'Standard_NC8as_T4_v3', end_kernels: true }]
    ]);
  });

  it('asks also where a notebook has come there while the dialog was open', async () => {
    await open();
    fireEvent.click(radio('NC8as_T4_v3'));
    model.set({ computes: [{ ...fixtures.gpu, attached: ['late.ipynb'] }] });
    await press('Resize');
    expect(model.done).toEqual([]);
    expect(
      dialog().getByRole('checkbox', { name: /^End the kernel of late\.ipynb\./ })
    ).toBeTruthy();
  });

  it('stays open and says why where it is refused', async () => {
    await open();
    fireEvent.click(radio('NC8as_T4_v3'));
    model.resize = () => Promise.reject(new RequestError(fixtures.problem, 409));
    await press('Resize');
    const alert = dialog().getByRole('alert');
    expect(alert.textContent).toContain(fixtures.problem.message);
    expect(alert.textContent).toContain(fixtures.problem.advice);
    expect(radio('NC8as_T4_v3').checked).toBe(true);
    await press('Cancel');
    await done;
  });

  it('sends one request, however often the button is pressed', async () => {
    await open();
    fireEvent.click(radio('NC8as_T4_v3'));
    let asked = 0;
    let goOn = () => {};
    model.resize = () => {
      asked += 1;
      return new Promise(resolve => (goOn = () => resolve(fixtures.attach)));
    };
    await press('Resize');
    await press('Resize');
    expect(asked).toBe(1);
    goOn();
    await done;
  });

  it('says why the sizes could not be listed, or that there are none', async () => {
    model.offers = () => Promise.reject(new RequestError(fixtures.problem, 403));
    await open();
    expect(dialog().getByRole('alert').textContent).toContain(fixtures.problem.message);
    await press('Cancel');
    model.offers = async () => ({
      sizes: [],
      notice: 'It cannot be resized: its disk is ephemeral.'
    });
    await open();
    await dialog().findByText('It cannot be resized: its disk is ephemeral.');
    expect(dialog().queryByRole('radiogroup')).toBeNull();
    await press('Resize');
    await dialog().findByText('There is no size to choose.');
  });

  it('does nothing at Enter in the filter, and closes at Escape', async () => {
    await open();
    fireEvent.click(radio('NC8as_T4_v3'));
    fireEvent.keyDown(dialog().getByRole('searchbox'), { key: 'Enter' });
    await settle(20);
    expect(model.done).toEqual([]);
    fireEvent.keyDown(dialog().getByRole('searchbox'), { key: 'Escape' });
    await done;
    expect(screen.queryByRole('dialog')).toBeNull();
  });

  it('filters by words and by GPU, and says how many are left', async () => {
    await open();
    fireEvent.change(dialog().getByRole('searchbox'), { target: { value: 't4' } });
    await dialog().findByText('2 of 4 sizes');
    fireEvent.change(dialog().getByRole('searchbox'), { target: { value: 'h100' } });
    await dialog().findByText('No size fits.');
    fireEvent.change(dialog().getByRole('searchbox'), { target: { value: '' } });
    fireEvent.click(dialog().getByRole('checkbox', { name: 'Only with GPU' }));
    await waitFor(() => expect(dialog().getAllByRole('radio')).toHaveLength(3));
  });
});

describe('fittingOffers', () => {
  it.each([
    ['', false, 4],
    ['nc', false, 2],
    ['v5 a10', false, 1],
    ['  ', true, 3],
    ['d4s', true, 0],
    ['nvidia', false, 3]
  ])('“%s”, only with GPU %s: %s', (text, withGpu, count) => {
    expect(fittingOffers(OFFERS, { text, withGpu })).toHaveLength(count);
  });

  it('leaves out those with a GPU', () => {
    const left = fittingOffers(OFFERS, { text: '', withGpu: false, withoutGpu: true });
    expect(left.map(({ size }) => size.name)).toEqual(['Standard_D4s_v5']);
  });
});
